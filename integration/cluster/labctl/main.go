// Command labctl looks after the cluster of integration/cluster that the variable LIFEBOAT_LAB keeps running: up, down,
// kubectl ARGUMENTS, node NAME COMMAND.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/lifeboat/lifeboat/integration/cluster"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "labctl:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	folder := os.Getenv(cluster.Variable)
	if folder == "" || len(args) == 0 {
		return errors.New("usage: LIFEBOAT_LAB=FOLDER labctl up | down | kubectl ARGUMENTS... | node NAME COMMAND")
	}
	if args[0] == "down" {
		return cluster.Remove(folder)
	}
	c, err := cluster.Open(ctx, folder, os.Stderr)
	if args[0] == "up" {
		c, err = cluster.Start(ctx, cluster.Options{Log: os.Stderr})
	}
	if err != nil {
		return err
	}
	var out string
	switch {
	case args[0] == "up":
		return c.Close()
	case args[0] == "kubectl":
		out, err = c.Kubectl(ctx, args[1:]...)
	case args[0] == "node" && len(args) > 2:
		out, err = c.Node(args[1]).Run(ctx, args[2:]...)
	default:
		err = fmt.Errorf("what is %q?", args)
	}
	fmt.Print(out)
	return err
}
