package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/lifeboat/lifeboat/providers/aws"

	"github.com/lifeboat/lifeboat/agent/config"
)

// result compares one measure of both sides. Ratio is ours / other; medians of all runs, where the name does not say otherwise.
type result struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Ours  float64 `json:"ours"`
	Other float64 `json:"other"`
	Peer  string  `json:"peer"` // who the other is
	Ratio float64 `json:"ratio"`
}

// Goals that no other program of this machine stands for.
const (
	goalReaction = 50 * time.Millisecond // beside the wait for the next poll
	goalRSS      = 30.0                  // MiB
	goalCPU      = 0.2                   // % of a core
)

func (b *bench) results() []result {
	var rs []result
	add := func(name, unit string, ours, other float64, peer string) {
		if other > 0 {
			rs = append(rs, result{name, unit, round(ours), round(other), peer, round(ours / other)})
		}
	}
	peer := "Spark " + b.spark + " BlockManagerDecommissioner"
	seconds := func(d func(measured) time.Duration) func(measured) float64 {
		return func(m measured) float64 { return d(m).Seconds() }
	}
	for _, wk := range works {
		for _, measure := range []struct {
			name, unit string
			of         func(measured) float64
		}{
			{"move", "s", seconds(func(m measured) time.Duration { return m.move })},
			{"release", "s", seconds(func(m measured) time.Duration { return m.release })},
			{"first-byte", "s", seconds(func(m measured) time.Duration { return m.first })},
			{"megabytes-per-second", "MB/s", measured.megabytes},
			{"outputs-per-second", "1/s", measured.outputs},
			{"move-with-poll", "s", seconds(func(m measured) time.Duration { return m.wait + m.move })},
			{"release-with-poll", "s", seconds(func(m measured) time.Duration { return m.wait + m.release })},
		} {
			ours, other := b.values(wk, lifeboat, measure.of), b.values(wk, spark, measure.of)
			if len(ours) > 0 && len(other) > 0 {
				add(measure.name+"-"+wk.name, measure.unit, median(ours), median(other), peer)
			}
		}
	}
	var reactions, after []float64
	for _, m := range b.runs {
		if m.side == lifeboat {
			reactions = append(reactions, (m.wait + m.first).Seconds())
			after = append(after, m.first.Seconds())
		}
	}
	if len(reactions) > 0 {
		add("reaction", "s", median(reactions), (poll + goalReaction).Seconds(), "goal")
		add("reaction-after-poll", "s", median(after), goalReaction.Seconds(), "goal")
	}
	b.fallbackResults(add)
	b.addReactions(add)
	b.uploadResults(add)
	if with, without := b.times(config.MirrorAlways), b.times(config.MirrorOff); len(with) > 0 && len(without) > 0 {
		add("job-with-mirror", "s", median(with), median(without), "the same job without copies ahead")
	}
	if b.idler != nil {
		add("idle-rss", "MiB", float64(b.idler.rss)/(1<<20), goalRSS, "goal")
		add("idle-cpu", "%", 100*b.idler.cpu, goalCPU, "goal")
	}
	return rs
}

// addReactions compares each source with the goal, and the one that the bare loop watches, too, with that loop.
func (b *bench) addReactions(add func(name, unit string, ours, other float64, peer string)) {
	quantiles := []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}}
	var loop reaction
	for _, r := range b.reactions {
		if r.source == bareName {
			loop = r
			continue
		}
		for _, q := range quantiles {
			add("reaction-"+r.source+"-"+q.name, "ms", millis(r.at(q.at)), millis(noticePoll+goalReaction), "goal")
		}
		if r.source == aws.SpotName && len(loop.times) > 0 {
			for _, q := range quantiles {
				add("reaction-"+r.source+"-"+q.name+"-beside", "ms", millis(r.at(q.at)), millis(loop.at(q.at)), "a bare loop of requests")
			}
		}
	}
}

func (b *bench) values(wk work, side string, of func(measured) float64) []float64 {
	var list []float64
	for _, m := range b.runs {
		if m.work == wk && m.side == side {
			list = append(list, of(m))
		}
	}
	return list
}

func round(v float64) float64 { return math.Round(v*1000) / 1000 }

func printTable(w io.Writer, rs []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\nmeasure\tunit\tLifeboat\tother\tratio\t  other is\n")
	for _, r := range rs {
		fmt.Fprintf(t, "%s\t%s\t%.3g\t%.3g\t%.3f\t  %s\n", r.Name, r.Unit, r.Ours, r.Other, r.Ratio, r.Peer)
	}
	return t.Flush()
}

func writeResults(path string, rs []result) error {
	raw, err := json.MarshalIndent(rs, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
