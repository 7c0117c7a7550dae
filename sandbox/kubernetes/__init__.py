"""A real kube-apiserver and etcd on loopback, built once from their Go modules."""
