//go:build tools

package main

// What is built beside this command, at the versions of this module.
import (
	_ "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"
	_ "github.com/kubernetes-csi/external-provisioner/v5/cmd/csi-provisioner"
)
