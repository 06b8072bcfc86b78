// Command bench measures, in one run on this machine, how Lifeboat and Spark's own BlockManagerDecommissioner
// carry the same map outputs off the same executor, how long after a notice is visible the agent acts on it,
// and what copies ahead cost a running job. It stands outside the way of a rescue and holds the clock.
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
	notices int
	uploads string
	mirrors int
	jobs    int
	only    string
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
	flag.IntVar(&o.notices, "notices", 1000, "notices of each source whose reaction is measured; 0: none")
	flag.StringVar(&o.uploads, "uploads", "2000x16KiB,200x1MiB,4x512MiB", "what is stored in an object storage")
	flag.IntVar(&o.mirrors, "mirrors", 8, "runs of a job with copies ahead, and as many without; 0: none")
	flag.IntVar(&o.jobs, "jobs", 1, "runs of the job whose only node goes, of each side; 0: none")
	flag.StringVar(&o.only, "only", "", "one part: moves, fallback, idle, mirror, notices or objects (the last two need no Spark); all when empty")
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
	b := &bench{options: o, w: w, dir: dir}
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
	w         io.Writer
	dir       string // for files of this run
	binary    string
	runs      []measured
	idler     *idling
	reactions []reaction
	stored    []uploaded
	aheads    []ahead
	jobRuns   []jobRun
}

// all measures the parts that were asked for. Notices come last: they leave the machine warm.
func (b *bench) all(ctx context.Context) (err error) {
	wants := func(part string) bool { return b.only == "" || b.only == part }
	if !slices.Contains([]string{"", "moves", "fallback", "idle", "mirror", "notices", "objects"}, b.only) {
		return fmt.Errorf("-only %q: there are moves, fallback, idle, mirror, notices and objects", b.only)
	}
	if wants("moves") || wants("fallback") || wants("idle") || wants("mirror") {
		if b.binary, err = lab.Build(ctx, b.dir); err != nil {
			return err
		}
	}
	if wants("moves") {
		if err := b.moves(ctx); err != nil {
			return err
		}
	}
	if wants("fallback") && b.jobs > 0 {
		if err := b.watchFallback(ctx); err != nil {
			return err
		}
	}
	if wants("idle") && b.idle > 0 {
		if err := b.watchIdle(ctx); err != nil {
			return err
		}
	}
	if wants("mirror") && b.mirrors > 0 {
		if err := b.watchMirror(ctx); err != nil {
			return err
		}
	}
	if wants("objects") && b.uploads != "" {
		if err := b.watchUploads(ctx); err != nil {
			return err
		}
	}
	if wants("notices") && b.notices > 0 {
		return b.watchNotices(ctx)
	}
	return nil
}

// moves lets each side move each work.
func (b *bench) moves(ctx context.Context) error {
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
