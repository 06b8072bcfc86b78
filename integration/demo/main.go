// Command demo shows what Lifeboat is for, on real Spark on this machine: the same job loses a node that
// holds map outputs twice, first with nobody to help, then with the agent on that node.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/integration/tools"
)

// patience is how long the whole demonstration may take, once Spark is installed.
const patience = 10 * time.Minute

type options struct {
	spark   string
	job     lab.Job
	verbose bool
}

func main() {
	o := options{job: lab.Job{Reduces: 8}}
	flag.StringVar(&o.spark, "spark", "4.3.0", "version of Spark: 3.5.9, 4.1.4 or 4.3.0")
	flag.IntVar(&o.job.Maps, "maps", 32, "map tasks of the job")
	flag.IntVar(&o.job.KiBPerMap, "kib", 1024, "KiB of shuffle data per map task")
	flag.IntVar(&o.job.MsPerMap, "ms", 1000, "how long a map task works, in ms: what losing its output costs")
	flag.BoolVar(&o.verbose, "v", false, "say how the clusters are started")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, o)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "demo: interrupted; nothing of it runs any more")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run plays both acts and compares them. It fails when the agent did not keep its promise.
func run(ctx context.Context, w io.Writer, o options) (err error) {
	for _, tool := range []string{"java", "spark-" + o.spark} {
		if _, err := tools.Path(ctx, tool, os.Stderr); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dir, err := os.MkdirTemp("", "lifeboat-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := lab.Build(ctx, dir)
	if err != nil {
		return err
	}
	introduce(w, o)
	without, err := play(ctx, w, o, "WITHOUT LIFEBOAT", "")
	if err != nil {
		return err
	}
	with, err := play(ctx, w, o, "WITH LIFEBOAT", binary)
	if err != nil {
		return err
	}
	return compare(w, without, with)
}
