package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// runNode serves the node service of CSI, and makes it known to the kubelet, until ctx ends.
func runNode(ctx context.Context, name, kubelet, folder string) error {
	if name == "" {
		return errors.New("--node must say which node this is")
	}
	d, err := openDisks(folder)
	if err != nil {
		return err
	}
	socket := filepath.Join(kubelet, "plugins", driver, "csi.sock")
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, identity{})
	csi.RegisterNodeServer(server, &node{name: name, disks: d})
	register := grpc.NewServer()
	registration.RegisterRegistrationServer(register, registrar{socket: socket})

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- serve(ctx, server, socket) }()
	go func() { ended <- serve(ctx, register, filepath.Join(kubelet, "plugins_registry", driver+"-reg.sock")) }()
	err = <-ended // without one the other is of no use
	stop()
	return errors.Join(err, <-ended)
}

// serve answers at a socket until ctx ends; one that an earlier run left there is replaced.
func serve(ctx context.Context, server *grpc.Server, socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, server.Stop)()
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// node mounts disks into pods.
type node struct {
	csi.UnimplementedNodeServer
	name  string
	disks *disks
}

func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name}, nil
}

func (*node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	rpc := &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER}
	return &csi.NodeGetCapabilitiesResponse{
		Capabilities: []*csi.NodeServiceCapability{{Type: &csi.NodeServiceCapability_Rpc{Rpc: rpc}}},
	}, nil
}

// NodePublishVolume mounts a disk that this node has, and no other.
func (n *node) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	has, err := n.disks.attachedTo(r.GetVolumeId())
	if err != nil {
		return nil, statusOf(err)
	}
	if has != n.name {
		return nil, status.Errorf(codes.FailedPrecondition, "the disk is not attached to %s but to %q", n.name, has)
	}
	data, err := n.disks.path(r.GetVolumeId(), "data")
	if err != nil {
		return nil, statusOf(err)
	}
	if err := mount(data, r.GetTargetPath(), r.GetReadonly()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// mount binds a folder to a target; doing it again changes nothing.
func mount(from, target string, readOnly bool) error {
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	if same, err := sameFolder(from, target); err != nil || same {
		return err
	}
	if err := unix.Mount(from, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount %s read-only: %w", target, errors.Join(err, unix.Unmount(target, 0)))
	}
	return nil
}

func sameFolder(a, b string) (bool, error) {
	inA, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	inB, err := os.Stat(b)
	return err == nil && os.SameFile(inA, inB), err
}

// NodeUnpublishVolume takes a disk out of a pod; it may have been done before.
func (*node) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	err := unix.Unmount(r.GetTargetPath(), 0)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: nothing is mounted there
		return nil, status.Errorf(codes.Internal, "unmount %s: %v", r.GetTargetPath(), err)
	}
	if err := os.Remove(r.GetTargetPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// registrar tells the kubelet where the driver listens; the kubelet finds it by its socket.
type registrar struct {
	registration.UnimplementedRegistrationServer
	socket string
}

func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: driver, Endpoint: r.socket, SupportedVersions: []string{"1.0.0"}}, nil
}

func (r registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !s.GetPluginRegistered() {
		fmt.Fprintln(os.Stderr, "csi: the kubelet refuses the driver:", s.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
