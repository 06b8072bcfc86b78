package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/alibaba"
	"github.com/lifeboat/lifeboat/providers/alibaba/alibabatest"
	"github.com/lifeboat/lifeboat/providers/aws"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/azure"
	"github.com/lifeboat/lifeboat/providers/azure/azuretest"
	filesource "github.com/lifeboat/lifeboat/providers/file"
	"github.com/lifeboat/lifeboat/providers/gcp"
	"github.com/lifeboat/lifeboat/providers/gcp/gcptest"
	"github.com/lifeboat/lifeboat/providers/tencent"
	"github.com/lifeboat/lifeboat/providers/tencent/tencenttest"
	"github.com/lifeboat/lifeboat/providers/termination"
)

// origin is the fake of a place where notices come from, and the source that watches it.
type origin struct {
	name     string
	rescues  bool // the agent begins a rescue at once
	source   func() (providers.Source, error)
	show     func(i int) error // the i-th notice, in the place of the one before
	hide     func()            // where a notice must end before the next one can be told from it; nil elsewhere
	machines bool              // a machine has one notice in its life: the next one is another machine's
	close    func() error      // of the fake, where no other origin has the same
}

// deadline of the i-th notice: another second for each, and far away.
func deadline(i int) time.Time { return time.Date(2099, 1, 1, 0, 0, i, 0, time.UTC) }

// newOrigins starts the fakes. What was started before a failure is returned, too.
func newOrigins(dir string) ([]origin, error) {
	var list []origin
	var errs []error
	for _, add := range []func() ([]origin, error){
		awsOrigins, gcpOrigins, azureOrigins, chineseOrigins, func() ([]origin, error) { return fileOrigins(dir) },
	} {
		some, err := add()
		list, errs = append(list, some...), append(errs, err)
	}
	return list, errors.Join(errs...)
}

// shows makes a function of origin.show of one that can't fail.
func shows(f func(i int)) func(int) error {
	return func(i int) error {
		f(i)
		return nil
	}
}

func awsOrigins() ([]origin, error) {
	fake, err := awstest.Start("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	from := func(make func(aws.Options) (*aws.Source, error)) func() (providers.Source, error) {
		return func() (providers.Source, error) {
			return make(aws.Options{Endpoint: fake.URL(), Interval: noticePoll})
		}
	}
	forBare, err := awstest.Start("127.0.0.1:0")
	if err != nil {
		return []origin{{close: fake.Close}}, err
	}
	return []origin{
		{
			name: bareName, source: func() (providers.Source, error) { return newBare(forBare.URL()) }, close: forBare.Close,
			show: shows(func(i int) { forBare.Announce("terminate", deadline(i)) }),
		},
		{
			name: aws.SpotName, rescues: true, source: from(aws.NewSpot), close: fake.Close,
			show: shows(func(i int) { fake.Announce("terminate", deadline(i)) }),
		},
		{
			name: aws.LifecycleName, rescues: true, source: from(aws.NewLifecycle),
			show: shows(func(int) { fake.Lifecycle("Terminated") }), hide: func() { fake.Lifecycle("InService") },
		},
		{
			name: aws.RebalanceName, source: from(aws.NewRebalance),
			show: shows(func(i int) { fake.Recommend(deadline(i)) }),
		},
		{
			name: aws.ScheduledName, source: from(aws.NewScheduled),
			show: shows(func(i int) {
				fake.Schedule(awstest.Event{ID: fmt.Sprintf("instance-event-%d", i), Code: "system-reboot", NotBefore: deadline(i)})
			}),
		},
	}, nil
}

// gcpOrigins are asked with long polls, as the agent does: the interval is only between them.
func gcpOrigins() ([]origin, error) {
	fake, err := gcptest.Start("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := gcp.Options{Endpoint: fake.URL(), Interval: noticePoll}
	return []origin{
		{
			name: gcp.PreemptedName, rescues: true, machines: true, close: fake.Close,
			source: func() (providers.Source, error) { return gcp.NewPreempted(o) },
			show:   shows(func(int) { fake.Preempt() }), hide: fake.Reboot,
		},
		{
			name:   gcp.MaintenanceName,
			source: func() (providers.Source, error) { return gcp.NewMaintenance(o) },
			show:   shows(func(int) { fake.Event(gcptest.Terminate) }), hide: func() { fake.Event(gcptest.NoEvent) },
		},
	}, nil
}

func azureOrigins() ([]origin, error) {
	fake, err := azuretest.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return []origin{{
		name: azure.Name, rescues: true, close: fake.Close,
		source: func() (providers.Source, error) {
			return azure.New(azure.Options{Endpoint: fake.URL(), Interval: noticePoll})
		},
		show: shows(func(i int) { fake.Replace(azuretest.Event{NotBefore: deadline(i)}) }),
	}}, nil
}

func chineseOrigins() ([]origin, error) {
	ali, err := alibabatest.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	list := []origin{{
		name: alibaba.Name, rescues: true, close: ali.Close,
		source: func() (providers.Source, error) {
			return alibaba.New(termination.Options{Endpoint: ali.URL(), Interval: noticePoll})
		},
		show: shows(func(i int) { ali.Announce(deadline(i)) }),
	}}
	ten, err := tencenttest.Listen("127.0.0.1:0")
	if err != nil {
		return list, err
	}
	return append(list, origin{
		name: tencent.Name, rescues: true, close: ten.Close,
		source: func() (providers.Source, error) {
			return tencent.New(termination.Options{Endpoint: ten.URL(), Interval: noticePoll})
		},
		show: shows(func(i int) { ten.Announce(deadline(i)) }),
	}), nil
}

// fileOrigins is the file that is written whole and renamed. It counts when it has not changed for as long as the others
// wait for a poll; the kernel says at once that it is there.
func fileOrigins(dir string) ([]origin, error) {
	path := filepath.Join(dir, "notice")
	return []origin{{
		name: filesource.Name, rescues: true,
		source: func() (providers.Source, error) {
			return filesource.New(filesource.Options{Path: path, Interval: noticePoll, Settle: noticePoll})
		},
		show: func(i int) error {
			text := fmt.Sprintf(`{"id": "n%d", "kind": "drain", "deadline": %q}`, i, deadline(i).Format(time.RFC3339))
			if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	}}, nil
}
