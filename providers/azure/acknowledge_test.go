package azure

import (
	"errors"
	"slices"
	"testing"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/azure/azuretest"
	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

func TestAcknowledgeReleasesOnlyOurMachine(t *testing.T) {
	for name, c := range map[string]struct {
		resources []string
		want      error
	}{
		"ours":                  {[]string{"workers_3"}, nil},
		"ours, other case":      {[]string{"WORKERS_3"}, nil},
		"ours, twice":           {[]string{"workers_3", "workers_3"}, nil},
		"ours and another":      {[]string{"workers_3", "workers_4"}, ErrNotOurs},
		"another":               {[]string{"workers_4"}, ErrNotOurs},
		"a name that has ours":  {[]string{"workers_33"}, ErrNotOurs},
		"a name that ours has":  {[]string{"workers"}, ErrNotOurs},
		"a name that is no one": {[]string{""}, ErrNotOurs},
	} {
		t.Run(name, func(t *testing.T) {
			fake := startFake(t)
			fake.Schedule(azuretest.Event{Type: "Reboot", NotBefore: inAnHour}) // another event of ours, which must wait
			id := fake.Schedule(azuretest.Event{Resources: c.resources, NotBefore: inAnHour})
			s := slowEvents(t, fake, Options{AcknowledgeEvents: true})
			if err := s.Acknowledge(t.Context(), Name+"-"+id); !errors.Is(err, c.want) || errors.Is(err, providers.ErrFinal) != (c.want != nil) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			var want []string
			if c.want == nil {
				want = []string{id}
			}
			if got := fake.Acknowledged(); !slices.Equal(got, want) {
				t.Errorf("acknowledged: %v, want %v", got, want)
			}
		})
	}
}

func TestDefect10PollsNeverAcknowledge(t *testing.T) {
	fake := startFake(t)
	for _, kind := range []string{"Freeze", "Reboot", "Redeploy", "Preempt", "Terminate", "Levitate"} {
		fake.Schedule(azuretest.Event{Type: kind, Source: "User", NotBefore: inAnHour})
		fake.Schedule(azuretest.Event{Type: kind})
	}
	s := slowEvents(t, fake, Options{AcknowledgeEvents: true})
	for range 20 {
		if found := look(t, s); len(found) != 12 {
			t.Fatalf("%d notices", len(found))
		}
	}
	if got := fake.Acknowledged(); len(got) != 0 {
		t.Errorf("acknowledged: %v", got)
	}
}

func TestDefect10NothingIsAcknowledgedUnlessTheOwnerWantsIt(t *testing.T) {
	fake := startFake(t)
	id := fake.Schedule(azuretest.Event{NotBefore: inAnHour})
	s := slowEvents(t, fake, Options{})
	if err := s.Acknowledge(t.Context(), Name+"-"+id); !errors.Is(err, ErrAcknowledgeOff) {
		t.Errorf("error %v", err)
	}
	if got := fake.Acknowledged(); len(got) != 0 {
		t.Errorf("acknowledged: %v", got)
	}
}

func TestDefect10AcknowledgementThatFailedIsAnError(t *testing.T) {
	for _, f := range []metadatatest.Kind{
		metadatatest.Unauthorized, metadatatest.NotFound, metadatatest.TooMany, metadatatest.Internal, metadatatest.Redirect, metadatatest.Reset,
	} {
		for _, on := range []metadatatest.Step{azuretest.Look, azuretest.Start} {
			t.Run(string(f)+"/"+string(on), func(t *testing.T) {
				fake := startFake(t)
				id := fake.Schedule(azuretest.Event{NotBefore: inAnHour})
				s := slowEvents(t, fake, Options{AcknowledgeEvents: true})
				fake.Faults(metadatatest.Fault{Kind: f, On: on})
				if err := s.Acknowledge(t.Context(), Name+"-"+id); err == nil || errors.Is(err, providers.ErrFinal) {
					t.Errorf("error %v, want one that another try may mend", err)
				}
				if got := fake.Acknowledged(); len(got) != 0 || fake.Redirected() != 0 {
					t.Errorf("acknowledged: %v", got)
				}
				fake.Faults()
				if err := s.Acknowledge(t.Context(), Name+"-"+id); err != nil {
					t.Errorf("tried again: %v", err)
				}
			})
		}
	}
}

func TestAcknowledgeOfAnEventThatIsOverOrHasBegun(t *testing.T) {
	fake := startFake(t)
	id := fake.Schedule(azuretest.Event{NotBefore: inAnHour})
	s := slowEvents(t, fake, Options{AcknowledgeEvents: true})
	for range 2 {
		if err := s.Acknowledge(t.Context(), Name+"-"+id); err != nil {
			t.Error(err)
		}
	}
	if got := fake.Acknowledged(); len(got) != 1 {
		t.Errorf("acknowledged: %v; the second time it had started", got)
	}
	fake.Remove(id)
	for _, notice := range []string{Name + "-" + id, id, "", "aws-spot-terminate"} {
		if err := s.Acknowledge(t.Context(), notice); !errors.Is(err, ErrOver) || !errors.Is(err, providers.ErrFinal) {
			t.Errorf("%q: error %v", notice, err)
		}
	}
}

func TestAcknowledgeOfADocumentInDoubt(t *testing.T) {
	const ours = `{"EventId":"a","EventType":"Preempt","Resources":["workers_3"]}`
	for name, c := range map[string]struct {
		events string
		want   error
	}{
		"listed again for another": {ours + `,{"EventId":"a","Resources":["workers_4"]}`, ErrNotOurs},
		"something unreadable":     {ours + `,{"EventId":"a"}`, nil},
	} {
		fake := startFake(t)
		fake.Show(`{"DocumentIncarnation":3,"Events":[` + c.events + `]}`)
		err := slowEvents(t, fake, Options{AcknowledgeEvents: true}).Acknowledge(t.Context(), Name+"-a")
		if err == nil || c.want != nil && !errors.Is(err, c.want) || errors.Is(err, ErrOver) {
			t.Errorf("%s: error %v", name, err)
		}
		if got := fake.Acknowledged(); len(got) != 0 {
			t.Errorf("%s: acknowledged %v", name, got)
		}
	}
}
