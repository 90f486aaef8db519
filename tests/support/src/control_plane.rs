//! The real kube-apiserver and etcd for a test run.
