package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
)

const (
	// dmiFolder is where the kernel shows what the firmware says about the machine, in containers too.
	dmiFolder = "/sys/class/dmi/id"
	// detectTimeout is for one look at all clouds at once: an address where nothing answers must not hold the others up.
	detectTimeout = 1500 * time.Millisecond
	// detectEvery and detectPause are the first and the longest pause between looks while no cloud was found: the network of a
	// machine that boots may come after the agent.
	detectEvery = 2 * time.Second
	detectPause = time.Minute
)

// detector finds out which cloud this machine is in.
type detector struct {
	clouds []cloud // that may be found
	dmi    string  // folder of the firmware's words
	log    *zap.Logger
}

// newDetector is nil when nothing is to be found out.
func newDetector(cfg config.Config, log *zap.Logger) *detector {
	if cfg.Providers.Cloud != config.CloudAuto {
		return nil
	}
	var list []cloud
	for _, c := range clouds(cfg) {
		switch c.enabled {
		case config.On:
			return nil // somebody knows already
		case config.Auto:
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return &detector{clouds: list, dmi: dmiFolder, log: log}
}

// run looks until a cloud is found, or ctx ends.
func (d *detector) run(ctx context.Context) (cloud, error) {
	for pauseFor := detectEvery; ; pauseFor = min(2*pauseFor, detectPause) {
		if c, found := d.once(ctx); found {
			return c, nil
		}
		if err := pause(ctx, pauseFor); err != nil {
			return cloud{}, err
		}
	}
}

// once looks one time. An address that somebody has set is asked before the firmware is believed, as in a test or
// behind a proxy for metadata; the firmware's word is enough then, because the metadata of a machine that boots may come late.
func (d *detector) once(ctx context.Context) (cloud, bool) {
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	var set, usual []cloud
	for _, c := range d.clouds {
		if c.named {
			set = append(set, c)
		} else {
			usual = append(usual, c)
		}
	}
	if c, found := first(ctx, set); found {
		return c, true
	}
	name := firmware(d.dmi)
	for _, c := range d.clouds {
		if c.name == name {
			d.log.Info("the firmware names the cloud", zap.String("cloud", name))
			return c, true
		}
	}
	return first(ctx, usual)
}

// first asks all of them side by side and returns the first that says yes.
func first(ctx context.Context, list []cloud) (cloud, bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan *cloud, len(list))
	for _, c := range list {
		go func() {
			if c.detect(ctx, c.endpoint) {
				answers <- &c
			} else {
				answers <- nil
			}
		}()
	}
	for range list {
		select {
		case c := <-answers:
			if c != nil {
				return *c, true
			}
		case <-ctx.Done(): // one that does not heed its context holds nobody up
			return cloud{}, false
		}
	}
	return cloud{}, false
}

// firmware is the cloud that the firmware names, or "". The words are those that the vendors document for this very question:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html,
// https://cloud.google.com/compute/docs/instances/detect-compute-engine, and Azure's asset tag, which is the same on all of Azure,
// while its vendor also stands for Hyper-V elsewhere (cloud-init's DataSourceAzure relies on it).
func firmware(folder string) string {
	for _, w := range [...]struct{ file, word, cloud string }{
		{"sys_vendor", "Amazon EC2", "aws"},
		{"bios_vendor", "Amazon EC2", "aws"},
		{"bios_version", "amazon", "aws"},
		{"product_name", "Google Compute Engine", "gcp"},
		{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure"},
		{"sys_vendor", "Alibaba Cloud", "alibaba"},
		{"sys_vendor", "Tencent Cloud", "tencent"},
	} {
		if strings.Contains(firmwareText(filepath.Join(folder, w.file)), w.word) {
			return w.cloud
		}
	}
	return ""
}

func firmwareText(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 4<<10))
	return string(bytes.TrimSpace(text))
}

// names lists clouds for a person.
func names(list []cloud) string {
	all := make([]string, len(list))
	for i, c := range list {
		all[i] = c.name
	}
	return strings.Join(all, ", ")
}

func (d *detector) searching() string {
	return fmt.Sprintf("no cloud was found yet (asked: %s); set providers.cloud or enable a source", names(d.clouds))
}
