package lab

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Fleet is what most scenarios begin with: a node that will be taken, with two executors of an
// application, and two more nodes with one each.
type Fleet struct {
	*Cluster
	Doomed *Node
	Peers  []*Node
	App    *App
}

// FleetOptions describe a Fleet.
type FleetOptions struct {
	// Network are the first three numbers of the nodes' loopback addresses; "": "127.0.0". Labs that run at
	// the same time need different ones: an agent knows the executors of its node by their address.
	Network string
	App     AppOptions
}

// doomedCores are the executors of the doomed node, one core each.
const doomedCores = 2

// Fleet starts the nodes and the application, all at once, and waits until all executors are there.
func (c *Cluster) Fleet(ctx context.Context, o FleetOptions) (*Fleet, error) {
	if o.Network == "" {
		o.Network = "127.0.0"
	}
	f := &Fleet{Cluster: c}
	nodes := make([]*Node, 3)
	var starts errgroup.Group
	for i := range nodes {
		n := NodeOptions{Address: fmt.Sprintf("%s.%d", o.Network, i+2)}
		if i == 0 {
			n.Cores, n.Conf = doomedCores, map[string]string{"spark.decommission.enabled": "true"}
		}
		starts.Go(func() (err error) {
			nodes[i], err = c.AddNode(ctx, n)
			return err
		})
	}
	var submitErr error
	f.App, submitErr = c.Submit(ctx, o.App)
	if err := errors.Join(starts.Wait(), submitErr); err != nil {
		return nil, err
	}
	f.Doomed, f.Peers = nodes[0], nodes[1:]
	return f, f.App.WaitExecutors(ctx, doomedCores+len(f.Peers))
}
