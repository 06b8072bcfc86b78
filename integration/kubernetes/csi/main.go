// Command csi gives the two-node cluster its volumes: disks that move between nodes, as a cloud's do, and folders that
// belong to one node, as local disks do. It stands outside of the cluster, beside the real external-provisioner and
// external-attacher. A module of its own keeps their dependencies out of the agent's go.mod.
//
//	csi controller --socket S --disks D             creates, attaches and detaches disks
//	csi node --node N --disks D [--kubelet DIR]     mounts them; runs where node N's kubelet runs
//	csi local --kubeconfig K --folders F            provisions folders F/NODE/VOLUME
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "csi:", err)
		os.Exit(1)
	}
}

// run does what the first argument says until ctx ends.
func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say what to run: controller, node or local")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	disks := flags.String("disks", "", "folder with the disks")
	switch args[0] {
	case "controller":
		socket := flags.String("socket", "", "where the provisioner and the attacher call")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return runController(ctx, *socket, *disks)
	case "node":
		node := flags.String("node", "", "name of this node")
		kubelet := flags.String("kubelet", "/var/lib/kubelet", "the kubelet's folder")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return runNode(ctx, *node, *kubelet, *disks)
	case "local":
		config := flags.String("kubeconfig", "", "how to reach the API server")
		folders := flags.String("folders", "", "folder with one folder for each node")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return runLocal(ctx, *config, *folders)
	default:
		return fmt.Errorf("%s: not controller, node or local", args[0])
	}
}
