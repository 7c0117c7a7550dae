// Program gitops answers what GitOps tools conclude from objects, by the libraries that the tools themselves use.
//
// It reads a JSON list of questions on standard input and writes a list of answers, in the same order.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	fluxstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type question struct {
	Object      unstructured.Unstructured
	Expressions *kustomize.HealthCheckExpressions // Flux: healthCheckExprs of a Kustomization
	Script      string                            // Argo CD: a Lua script
}

type answer struct {
	Status  string          `json:"status,omitempty"`
	Message string          `json:"message,omitempty"`
	Value   json.RawMessage `json:"value,omitempty"`
	Error   string          `json:"error,omitempty"`
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	answers := make([]answer, 0, len(questions))
	for _, one := range questions {
		found, err := answered(one)
		if err != nil {
			found = answer{Error: err.Error()}
		}
		answers = append(answers, found)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answered(one question) (answer, error) {
	switch {
	case one.Script != "":
		value, err := byLua(one.Script, one.Object.Object)
		return answer{Value: value}, err
	case one.Expressions != nil:
		evaluator, err := compiled(one.Expressions)
		if err != nil {
			return answer{}, err
		}
		found, err := evaluator.Evaluate(context.Background(), &one.Object)
		if err != nil {
			return answer{}, err
		}
		return answer{Status: string(found.Status), Message: found.Message}, nil
	default:
		return byKstatus(&one.Object)
	}
}

var evaluators = map[kustomize.HealthCheckExpressions]*cel.StatusEvaluator{}

func compiled(expressions *kustomize.HealthCheckExpressions) (*cel.StatusEvaluator, error) {
	if known := evaluators[*expressions]; known != nil {
		return known, nil
	}
	evaluator, err := cel.NewStatusEvaluator(expressions)
	evaluators[*expressions] = evaluator
	return evaluator, err
}

// byKstatus asks the library of Kubernetes and Flux's own copy of it, which must agree.
func byKstatus(object *unstructured.Unstructured) (answer, error) {
	found, err := status.Compute(object)
	if err != nil {
		return answer{}, err
	}
	flux, err := fluxstatus.Compute(object)
	if err != nil {
		return answer{}, err
	}
	if string(flux.Status) != string(found.Status) {
		return answer{}, fmt.Errorf("kstatus says %s, Flux's copy of it %s", found.Status, flux.Status)
	}
	return answer{Status: string(found.Status), Message: found.Message}, nil
}

// byLua runs a script as Argo CD does: with the libraries package, base and table, and with time and date of os.
// Source: argoproj/argo-cd, util/lua/lua.go (runLuaWithResourceActionParameters) and util/lua/oslib_safe.go.
func byLua(script string, object map[string]interface{}) (json.RawMessage, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}, {lua.OsLibName, safeOs}}
	for _, library := range libraries {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	state.PreloadModule(lua.OsLibName, func(state *lua.LState) int {
		state.Push(state.GetGlobal(lua.OsLibName))
		return 1
	})
	limited, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limited)
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	value, err := luajson.Decode(state, text)
	if err != nil {
		return nil, err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	return luajson.Encode(state.Get(-1))
}

// safeOs leaves of the library os what needs no right: time and date.
func safeOs(state *lua.LState) int {
	lua.OpenOs(state)
	all, safe := state.GetGlobal(lua.OsLibName), state.NewTable()
	for _, name := range []string{"time", "date"} {
		state.SetField(safe, name, state.GetField(all, name))
	}
	state.SetGlobal(lua.OsLibName, safe)
	return 0
}
