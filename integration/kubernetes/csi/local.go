package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	provision "sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// localProvisioner is the name that the storage class of local volumes gives.
const localProvisioner = "local.lifeboat.dev"

// runLocal makes a local volume for each claim of that class until ctx ends.
func runLocal(ctx context.Context, kubeconfig, folders string) error {
	if !filepath.IsAbs(folders) {
		return fmt.Errorf("--folders must be an absolute path, not %q", folders)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	provision.NewProvisionController(ctx, client, localProvisioner, local(folders), provision.LeaderElection(false)).Run(ctx)
	return nil
}

// local is the folder that holds a folder for each node.
type local string

// Provision makes a folder on the node that the first pod was given to, and a volume that can be used only there.
func (l local) Provision(_ context.Context, o provision.ProvisionOptions) (*core.PersistentVolume, provision.ProvisioningState, error) {
	if o.SelectedNodeName == "" {
		return nil, provision.ProvisioningFinished, fmt.Errorf("class %s must wait for the first consumer", o.StorageClass.Name)
	}
	folder := filepath.Join(string(l), o.SelectedNodeName, o.PVName)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, provision.ProvisioningFinished, err
	}
	if err := os.Chmod(folder, 0o777); err != nil { // Spark is not root
		return nil, provision.ProvisioningFinished, err
	}
	here := core.NodeSelectorRequirement{Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{o.SelectedNodeName}}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: o.PVName},
		Spec: core.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: o.PVC.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: folder}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{here}}},
			}},
		},
	}, provision.ProvisioningFinished, nil
}

// Delete removes the folder of a volume that Provision made, and nothing else.
func (l local) Delete(_ context.Context, volume *core.PersistentVolume) error {
	if volume.Spec.Local == nil {
		return fmt.Errorf("volume %s is not local", volume.Name)
	}
	folder := filepath.Clean(volume.Spec.Local.Path)
	if filepath.Base(folder) != volume.Name || filepath.Dir(filepath.Dir(folder)) != filepath.Clean(string(l)) {
		return fmt.Errorf("volume %s is not below %s but at %s", volume.Name, l, folder)
	}
	return os.RemoveAll(folder)
}
