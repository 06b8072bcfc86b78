package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// driver is the name that the storage class and the CSIDriver object give.
const driver = "disk.lifeboat.dev"

// attachDelay is the parameter of a storage class that says how long attaching and detaching its disks take.
const attachDelay = "attachDelay"

// runController serves the identity and controller services of CSI until ctx ends.
func runController(ctx context.Context, socket, folder string) error {
	d, err := openDisks(folder)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, identity{controller: true})
	csi.RegisterControllerServer(server, &controller{disks: d})
	return serve(ctx, server, socket)
}

// identity says what the driver is; CSI wants it on every socket.
type identity struct {
	csi.UnimplementedIdentityServer
	controller bool
}

func (identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driver, VendorVersion: "1"}, nil
}

func (i identity) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	if !i.controller {
		return &csi.GetPluginCapabilitiesResponse{}, nil
	}
	service := &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}
	return &csi.GetPluginCapabilitiesResponse{
		Capabilities: []*csi.PluginCapability{{Type: &csi.PluginCapability_Service_{Service: service}}},
	}, nil
}

func (identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// controller is what external-provisioner and external-attacher call.
type controller struct {
	csi.UnimplementedControllerServer
	disks *disks
}

func (*controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	var all []*csi.ControllerServiceCapability
	for _, can := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER, // Spark 4 asks for ReadWriteOncePod
	} {
		rpc := &csi.ControllerServiceCapability_RPC{Type: can}
		all = append(all, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: rpc}})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: all}, nil
}

func (c *controller) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	var delay time.Duration
	for key, value := range r.GetParameters() {
		var err error
		if key != attachDelay {
			err = errors.New("unknown")
		} else {
			delay, err = time.ParseDuration(value)
		}
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s: %v", key, err)
		}
	}
	if err := refused(r.GetVolumeCapabilities()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := c.disks.create(r.GetName(), delay); err != nil {
		return nil, statusOf(err)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: r.GetName(), CapacityBytes: r.GetCapacityRange().GetRequiredBytes(),
	}}, nil
}

func (c *controller) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	return &csi.DeleteVolumeResponse{}, statusOf(c.disks.remove(r.GetVolumeId()))
}

func (c *controller) ControllerPublishVolume(ctx context.Context, r *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if r.GetNodeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "no node")
	}
	return &csi.ControllerPublishVolumeResponse{}, statusOf(c.disks.attach(ctx, r.GetVolumeId(), r.GetNodeId()))
}

func (c *controller) ControllerUnpublishVolume(ctx context.Context, r *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	return &csi.ControllerUnpublishVolumeResponse{}, statusOf(c.disks.detach(ctx, r.GetVolumeId(), r.GetNodeId()))
}

func (c *controller) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if _, err := c.disks.attachedTo(r.GetVolumeId()); err != nil {
		return nil, statusOf(err)
	}
	if err := refused(r.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeCapabilities: r.GetVolumeCapabilities(),
	}}, nil
}

// refused is why a disk can't be used as wanted: it is for one node, and has files.
func refused(wanted []*csi.VolumeCapability) error {
	for _, w := range wanted {
		switch mode := w.GetAccessMode().GetMode(); mode {
		case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		default:
			return fmt.Errorf("a disk can't be used as %s", mode)
		}
		if w.GetBlock() != nil {
			return errors.New("a disk is no block device here")
		}
	}
	return nil
}

// statusOf is an error of a disk as CSI's clients understand it.
func statusOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoDisk):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, errAttached): // CSI: published to another node, or still in use
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, errBadDiskID):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	default:
		return status.Error(codes.Internal, err.Error())
	}
}
