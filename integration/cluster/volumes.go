package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/integration/kubelab"
	"github.com/lifeboat/lifeboat/integration/lab"
)

// The storage classes that Volumes makes.
const (
	DiskClass     = "lab-disk"      // disks that one node has at a time, and that move between nodes, as a cloud's do
	SlowDiskClass = "lab-disk-slow" // the same; attaching and detaching take five seconds each
	LocalClass    = "lab-local"     // folders of one node, for pods of that node only, as local disks are
)

// diskDriver is the name of the driver behind the disks; local volumes have a provisioner and no driver.
const diskDriver = "disk.lifeboat.dev"

const classes = `
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: disk.lifeboat.dev}
spec: {attachRequired: true, podInfoOnMount: false, fsGroupPolicy: None}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: lab-disk}
provisioner: disk.lifeboat.dev
volumeBindingMode: Immediate
reclaimPolicy: Delete
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: lab-disk-slow}
provisioner: disk.lifeboat.dev
parameters: {attachDelay: 5s}
volumeBindingMode: Immediate
reclaimPolicy: Delete
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: lab-local}
provisioner: local.lifeboat.dev
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
`

// Volumes starts what provisions and attaches volumes, unless it runs, makes the storage classes, and waits until each node
// that is Ready can mount disks. Each node's part of the driver runs from its boot on.
func (c *Cluster) Volumes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	socket, config := c.path("csi.sock"), c.control.AdminKubeconfig()
	for _, args := range [][]string{
		{"csi", "controller", "--socket", socket, "--disks", c.disks()},
		{"csi-provisioner", "--kubeconfig", config, "--csi-address", socket, "--default-fstype", "ext4"},
		{"csi-attacher", "--kubeconfig", config, "--csi-address", socket},
		{"csi", "local", "--kubeconfig", config, "--folders", c.locals()},
	} {
		if err := c.keepRunning(args); err != nil {
			return err
		}
	}
	if err := c.Apply(ctx, classes); err != nil {
		return fmt.Errorf("storage classes: %w", err)
	}
	for _, n := range c.nodes {
		if err := n.waitDriver(ctx); err != nil {
			return err
		}
	}
	return nil
}

// disks is the folder of the disks, and locals that of the local volumes, by node: a node that is replaced takes its own along.
func (c *Cluster) disks() string  { return c.path("disks") }
func (c *Cluster) locals() string { return c.path("local") }

// keepRunning starts a part of the volumes' machinery beside the API server, unless it runs.
func (c *Cluster) keepRunning(args []string) error {
	name := args[0]
	if name == "csi" {
		name += "-" + args[1]
	}
	_, err := kubelab.Find(c.path(name+".pid"), c.path(name+".log"))
	if !errors.Is(err, kubelab.ErrGone) {
		return err
	}
	_, err = kubelab.Run(kubelab.Spec{
		Args: append([]string{filepath.Join(c.parts.csi, args[0])}, args[1:]...), Dir: c.Folder, Net: c.net,
		Env: []string{"PATH=" + os.Getenv("PATH")}, Log: c.path(name + ".log"), PID: c.path(name + ".pid"), Outlives: c.kept,
	})
	return err
}

// waitDriver waits until the kubelet of a node that is Ready knows the driver.
func (n *Node) waitDriver(ctx context.Context) error {
	status, err := n.c.nodeStatus(ctx, n.Name)
	if err != nil || status.condition("Ready") != "True" {
		return err
	}
	return lab.Until(ctx, n.Name+" can mount disks", func(ctx context.Context) (bool, error) {
		var doc struct {
			Spec struct{ Drivers []struct{ Name string } }
		}
		err := n.c.Do(ctx, http.MethodGet, "/apis/storage.k8s.io/v1/csinodes/"+n.Name, nil, &doc)
		return err == nil && slices.ContainsFunc(doc.Spec.Drivers, func(d struct{ Name string }) bool { return d.Name == diskDriver }), nil
	})
}

// Claim is what matters of a persistent volume claim.
type Claim struct {
	Name, Volume, Phase string
	Labels, Annotations map[string]string
	Owners              []string // as Pod/driver
}

// Claims are the claims of a namespace, by name.
func (c *Cluster) Claims(ctx context.Context, namespace string) ([]Claim, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Name                string
				Labels, Annotations map[string]string
				OwnerReferences     []struct{ Kind, Name string }
			}
			Spec   struct{ VolumeName string }
			Status struct{ Phase string }
		}
	}
	if err := c.Do(ctx, http.MethodGet, "/api/v1/namespaces/"+namespace+"/persistentvolumeclaims", nil, &list); err != nil {
		return nil, err
	}
	var claims []Claim
	for _, i := range list.Items {
		claim := Claim{
			Name: i.Metadata.Name, Volume: i.Spec.VolumeName, Phase: i.Status.Phase,
			Labels: i.Metadata.Labels, Annotations: i.Metadata.Annotations,
		}
		for _, o := range i.Metadata.OwnerReferences {
			claim.Owners = append(claim.Owners, o.Kind+"/"+o.Name)
		}
		claims = append(claims, claim)
	}
	return claims, nil
}

// Attached is the node that has the disk of a volume, by the driver's own books, or "".
func (c *Cluster) Attached(ctx context.Context, volume string) (string, error) {
	id, err := c.diskOf(ctx, volume)
	if err != nil {
		return "", err
	}
	node, err := os.ReadFile(filepath.Join(c.disks(), id, "attached"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(node), err
}

// Contents is the folder on this machine that holds what is on a volume of one of the classes, also while nobody has it.
func (c *Cluster) Contents(ctx context.Context, volume string) (string, error) {
	id, err := c.diskOf(ctx, volume)
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(id) {
		return id, nil
	}
	return filepath.Join(c.disks(), id, "data"), nil
}

// diskOf is the disk behind a volume, or the path of a local one.
func (c *Cluster) diskOf(ctx context.Context, volume string) (string, error) {
	var doc struct {
		Spec struct {
			CSI   *struct{ VolumeHandle string }
			Local *struct{ Path string }
		}
	}
	if err := c.Do(ctx, http.MethodGet, "/api/v1/persistentvolumes/"+volume, nil, &doc); err != nil {
		return "", err
	}
	switch {
	case doc.Spec.CSI != nil:
		return doc.Spec.CSI.VolumeHandle, nil
	case doc.Spec.Local != nil:
		return doc.Spec.Local.Path, nil
	default:
		raw, _ := json.Marshal(doc)
		return "", fmt.Errorf("the volume %s is of no class of the lab: %s", volume, raw)
	}
}
