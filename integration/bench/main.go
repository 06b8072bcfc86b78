// Command bench measures, in one run on this machine, how Lifeboat and Spark's own BlockManagerDecommissioner
// carry the same map outputs off the same executor. It stands outside the way of a rescue and holds the clock.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// works are what is carried, each about 32 MB or 200 MB.
var works = []work{
	{name: "200x1MiB", maps: 200, kib: 1024},
	{name: "2000x16KiB", maps: 2000, kib: 16},
}

// work is a number of map outputs of one size.
type work struct {
	name string
	maps int
	kib  int
}

type options struct {
	spark   string
	runs    int
	works   string
	sides   string
	config  string // more YAML for the agent
	idle    time.Duration
	cold    bool
	keep    bool
	verbose bool
	out     string
}

func main() {
	var o options
	flag.StringVar(&o.spark, "spark", "4.3.0", "version of Spark: 3.5.9, 4.1.4 or 4.3.0")
	flag.IntVar(&o.runs, "runs", 3, "runs of each side")
	flag.StringVar(&o.works, "works", "200x1MiB,2000x16KiB", "what is moved")
	flag.StringVar(&o.sides, "sides", "spark,lifeboat", "who moves it, in this order")
	flag.StringVar(&o.config, "config", "", "more YAML for the agent, as 'migrate: {connections: 4}'")
	flag.DurationVar(&o.idle, "idle", 40*time.Second, "how long the idle agent is watched; 0: not at all")
	flag.BoolVar(&o.cold, "cold", false, "peers have never received a block before")
	flag.BoolVar(&o.keep, "keep", false, "keep all files")
	flag.BoolVar(&o.verbose, "v", false, "say how the clusters are started")
	flag.StringVar(&o.out, "out", "build/bench/results.json", "where the results go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures everything and writes the results. What was measured before a failure is written too.
func run(ctx context.Context, w io.Writer, o options) (err error) {
	dir, err := os.MkdirTemp("", "lifeboat-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := lab.Build(ctx, dir)
	if err != nil {
		return err
	}
	b := &bench{options: o, w: w, binary: binary}
	err = b.all(ctx)
	rs := b.results()
	if len(rs) == 0 {
		return err
	}
	return errors.Join(err, printTable(w, rs), writeResults(o.out, rs))
}

// bench holds what was measured so far.
type bench struct {
	options
	w      io.Writer
	binary string
	runs   []measured
	idler  *idling
}

func (b *bench) all(ctx context.Context) error {
	fmt.Fprintf(b.w, "Spark %s; one executor leaves, two others take its map outputs; load before: %s\n\n", b.spark, load())
	for _, wk := range works {
		if !slices.Contains(strings.Split(b.works, ","), wk.name) {
			continue
		}
		for i := range b.options.runs {
			for _, side := range strings.Split(b.sides, ",") {
				if err := b.one(ctx, wk, side, i+1); err != nil {
					return fmt.Errorf("%s, %s, run %d: %w", wk.name, side, i+1, err)
				}
			}
		}
	}
	if b.idle > 0 {
		return b.watchIdle(ctx)
	}
	return nil
}

// one is one run of one side, on a cluster of its own.
func (b *bench) one(ctx context.Context, wk work, side string, n int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	s, err := b.open(ctx, wk)
	if s != nil {
		defer func() { err = errors.Join(err, s.Close()) }()
	}
	if err != nil {
		return err
	}
	m := measured{work: wk, side: side, load: load()}
	move := s.bySpark
	if side == lifeboat {
		move = s.byLifeboat
	}
	if err := move(ctx, &m); err != nil {
		return err
	}
	if err := s.check(ctx, &m); err != nil {
		return err
	}
	b.runs = append(b.runs, m)
	fmt.Fprintf(b.w, "%-10s %-8s run %d: %s\n", wk.name, side, n, m)
	return nil
}

// load is the machine's, over one, five and fifteen minutes.
func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(raw))[:3], " ")
}
