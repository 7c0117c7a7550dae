// Puts a server on a key with armsql v1.2.0, as it is: its own api-versions, its own polling.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/sql/armsql"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	context := context.Background()
	subscription, group, server := os.Getenv("SUBSCRIPTION_ID"), os.Args[1], os.Args[2]
	identity, application, name, uri := os.Args[3], os.Args[4], os.Args[5], os.Args[6]
	credential, err := azidentity.NewClientSecretCredential(
		os.Getenv("PROVIDER_TENANT_ID"), os.Getenv("PROVIDER_ADMIN_CLIENT_ID"), os.Getenv("PROVIDER_ADMIN_CLIENT_SECRET"), nil)
	fail(err)
	clients, err := armsql.NewClientFactory(subscription, credential, nil)
	fail(err)

	update, err := clients.NewServersClient().BeginUpdate(context, group, server, armsql.ServerUpdate{
		Identity: &armsql.ResourceIdentity{
			Type:                   to.Ptr(armsql.IdentityTypeUserAssigned),
			UserAssignedIdentities: map[string]*armsql.UserIdentity{identity: {}},
		},
		Properties: &armsql.ServerProperties{PrimaryUserAssignedIdentityID: &identity, FederatedClientID: &application},
	}, nil)
	fail(err)
	_, err = update.PollUntilDone(context, nil)
	fail(err)

	key, err := clients.NewServerKeysClient().BeginCreateOrUpdate(context, group, server, name, armsql.ServerKey{
		Properties: &armsql.ServerKeyProperties{ServerKeyType: to.Ptr(armsql.ServerKeyTypeAzureKeyVault), URI: &uri},
	}, nil)
	fail(err)
	_, err = key.PollUntilDone(context, nil)
	fail(err)

	protector, err := clients.NewEncryptionProtectorsClient().BeginCreateOrUpdate(
		context, group, server, armsql.EncryptionProtectorNameCurrent, armsql.EncryptionProtector{
			Properties: &armsql.EncryptionProtectorProperties{
				ServerKeyType: to.Ptr(armsql.ServerKeyTypeAzureKeyVault), ServerKeyName: &name, AutoRotationEnabled: to.Ptr(true),
			},
		}, nil)
	fail(err)
	protected, err := protector.PollUntilDone(context, nil)
	fail(err)

	encryption, err := clients.NewTransparentDataEncryptionsClient().Get(
		context, group, server, "orders", armsql.TransparentDataEncryptionNameCurrent, nil)
	fail(err)
	keys := []string{}
	for pages := clients.NewServerKeysClient().NewListByServerPager(group, server, nil); pages.More(); {
		page, err := pages.NextPage(context)
		fail(err)
		for _, one := range page.Value {
			keys = append(keys, *one.Name)
		}
	}
	fail(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"protector": *protected.Properties.ServerKeyName, "keys": keys, "encryption": *encryption.Properties.State,
	}))
}
