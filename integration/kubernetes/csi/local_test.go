package main

import (
	"os"
	"path/filepath"
	"testing"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	provision "sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func TestLocalVolume(t *testing.T) {
	l := local(t.TempDir())
	keep := core.PersistentVolumeReclaimDelete
	options := provision.ProvisionOptions{
		StorageClass: &storage.StorageClass{ReclaimPolicy: &keep},
		PVName:       "pvc-1",
		PVC: &core.PersistentVolumeClaim{Spec: core.PersistentVolumeClaimSpec{
			Resources: core.VolumeResourceRequirements{Requests: core.ResourceList{core.ResourceStorage: resource.MustParse("1Gi")}},
		}},
	}
	if _, _, err := l.Provision(t.Context(), options); err == nil {
		t.Error("a volume without a node was made")
	}
	options.SelectedNodeName = "node-a"
	volume, _, err := l.Provision(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(string(l), "node-a/pvc-1")
	if volume.Spec.Local.Path != folder {
		t.Errorf("at %s, want %s", volume.Spec.Local.Path, folder)
	}
	if values := volume.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values; len(values) != 1 || values[0] != "node-a" {
		t.Errorf("bound to %v", values)
	}
	for _, path := range []string{string(l), filepath.Join(string(l), "node-a"), "/", folder + "/../../../pvc-1"} {
		foreign := &core.PersistentVolume{ObjectMeta: meta.ObjectMeta{Name: "pvc-1"}}
		foreign.Spec.Local = &core.LocalVolumeSource{Path: path}
		if err := l.Delete(t.Context(), foreign); err == nil {
			t.Errorf("%s was deleted", path)
		}
	}
	if _, err := os.Stat(folder); err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}
