package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// start serves a controller and returns a client of it, and the folder of its disks.
func start(t *testing.T) (csi.ControllerClient, string) {
	t.Helper()
	folder, socket := t.TempDir(), filepath.Join(t.TempDir(), "csi.sock")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runController(ctx, socket, folder) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return csi.NewControllerClient(conn), folder
}

func create(t *testing.T, c csi.ControllerClient, name string, parameters map[string]string) {
	t.Helper()
	single := &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER}
	r := &csi.CreateVolumeRequest{Name: name, Parameters: parameters, VolumeCapabilities: []*csi.VolumeCapability{{AccessMode: single}}}
	if _, err := c.CreateVolume(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func attach(t *testing.T, c csi.ControllerClient, disk, node string) codes.Code {
	t.Helper()
	_, err := c.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: disk, NodeId: node})
	return status.Code(err)
}

func detach(t *testing.T, c csi.ControllerClient, disk, node string) codes.Code {
	t.Helper()
	_, err := c.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: disk, NodeId: node})
	return status.Code(err)
}

func remove(t *testing.T, c csi.ControllerClient, disk string) codes.Code {
	t.Helper()
	_, err := c.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: disk})
	return status.Code(err)
}

// TestDiskIsAttachedToOneNode goes through the life of a disk whose node dies.
func TestDiskIsAttachedToOneNode(t *testing.T) {
	c, folder := start(t)
	create(t, c, "pvc-1", nil)
	file := filepath.Join(folder, "pvc-1/data/output")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	create(t, c, "pvc-1", nil) // asked again
	steps := []struct {
		name string
		got  func() codes.Code
		want codes.Code
	}{
		{"attach", func() codes.Code { return attach(t, c, "pvc-1", "a") }, codes.OK},
		{"attach again", func() codes.Code { return attach(t, c, "pvc-1", "a") }, codes.OK},
		{"attach elsewhere", func() codes.Code { return attach(t, c, "pvc-1", "b") }, codes.FailedPrecondition},
		{"delete what a node has", func() codes.Code { return remove(t, c, "pvc-1") }, codes.FailedPrecondition},
		{"detach from another", func() codes.Code { return detach(t, c, "pvc-1", "b") }, codes.OK},
		{"a still has it", func() codes.Code { return attach(t, c, "pvc-1", "b") }, codes.FailedPrecondition},
		{"detach", func() codes.Code { return detach(t, c, "pvc-1", "a") }, codes.OK},
		{"detach again", func() codes.Code { return detach(t, c, "pvc-1", "a") }, codes.OK},
		{"it moves", func() codes.Code { return attach(t, c, "pvc-1", "b") }, codes.OK},
		{"attach to nobody", func() codes.Code { return attach(t, c, "pvc-1", "") }, codes.InvalidArgument},
		{"attach what is not there", func() codes.Code { return attach(t, c, "pvc-2", "b") }, codes.NotFound},
		{"detach what is not there", func() codes.Code { return detach(t, c, "pvc-2", "b") }, codes.OK},
		{"delete what is not there", func() codes.Code { return remove(t, c, "pvc-2") }, codes.OK},
		{"delete what is no disk", func() codes.Code { return remove(t, c, "../"+filepath.Base(folder)) }, codes.InvalidArgument},
	}
	for _, step := range steps {
		if got := step.got(); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "kept" {
		t.Errorf("on the disk: %q, %v", data, err)
	}
	if detach(t, c, "pvc-1", "b") != codes.OK || remove(t, c, "pvc-1") != codes.OK {
		t.Error("the disk can't be deleted")
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the disk is still there: %v", err)
	}
}

// TestSlowDisk: a call that ends before the disk is attached leaves it as it was, and other disks don't wait for it.
func TestSlowDisk(t *testing.T) {
	c, _ := start(t)
	create(t, c, "slow", map[string]string{attachDelay: "1h"})
	create(t, c, "fast", nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: "slow", NodeId: "a"})
		ended <- err
	}()
	if code := attach(t, c, "fast", "a"); code != codes.OK {
		t.Errorf("the fast disk: %s", code)
	}
	stop()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want the end of the call", err)
	}
	if code := remove(t, c, "slow"); code != codes.OK {
		t.Errorf("delete: %s", code)
	}
}

func TestCreateRefuses(t *testing.T) {
	c, _ := start(t)
	everywhere := &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER}
	for name, r := range map[string]*csi.CreateVolumeRequest{
		"parameter": {Name: "x", Parameters: map[string]string{"speed": "high"}},
		"delay":     {Name: "x", Parameters: map[string]string{attachDelay: "long"}},
		"many":      {Name: "x", VolumeCapabilities: []*csi.VolumeCapability{{AccessMode: everywhere}}},
		"name":      {Name: "a/b"},
		"no name":   {},
	} {
		if _, err := c.CreateVolume(t.Context(), r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
