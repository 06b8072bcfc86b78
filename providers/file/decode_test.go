package file

import (
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

func TestDecode(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		says    string // part of the error; "" is none
	}{
		"nothing":         {"", ""},
		"blanks":          {" \r\n\t", ""},
		"all":             {`{"in":"90s","kind":"rebalance","executors":["driver","1"],"drill":true,"id":"a.b_c:d-1"}`, ""},
		"deadline":        {`{"deadline":"2030-01-02T03:04:05Z"}`, ""},
		"half":            {`{"in":"90s"`, "unexpected EOF"},
		"two":             {`{}{}`, "more than one"},
		"garbage after":   {`{} x`, "more than one"},
		"no object":       {`null`, "no JSON object"},
		"list":            {`[]`, "cannot unmarshal"},
		"misspelt":        {`{"deadlin":"2030-01-02T03:04:05Z"}`, "unknown field"},
		"bad deadline":    {`{"deadline":"tomorrow"}`, "parsing time"},
		"both":            {`{"deadline":"2030-01-02T03:04:05Z","in":"1s"}`, "both"},
		"number":          {`{"in":60}`, "cannot unmarshal"},
		"no unit":         {`{"in":"60"}`, "no time span"},
		"negative":        {`{"in":"-1s"}`, "no time span"},
		"zero":            {`{"in":"0s"}`, "no time span"},
		"too long":        {`{"in":"200h"}`, "no time span"},
		"kind":            {`{"kind":"flood"}`, "not known"},
		"empty kind":      {`{"kind":""}`, "not known"},
		"id":              {`{"id":"a b"}`, "id:"},
		"long id":         {`{"id":"` + strings.Repeat("a", 129) + `"}`, "id:"},
		"no executor":     {`{"executors":[]}`, "leave it out"},
		"empty executor":  {`{"executors":["1",""]}`, "no executor id"},
		"executor number": {`{"executors":[1]}`, "cannot unmarshal"},
		"many executors":  {`{"executors":["1"` + strings.Repeat(`,"1"`, maxExecutors) + `]}`, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := decode(c.content)
			if c.says == "" {
				if err != nil || r.Kind == "" {
					t.Errorf("%+v, %v", r, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "{}", `{"in":"1h","executors":["1"]}`, `{"deadline":"2030-01-02T03:04:05Z","id":"x"}`, "null", "[", `{"id":"\u0000"}`,
		`{"kind":"pause","app":"app-1","drill":true,"dryRun":true}`} {
		f.Add(s)
	}
	rule := rules{source: Name, lead: time.Minute}
	f.Fuzz(func(t *testing.T, content string) {
		r, err := decode(content)
		if err != nil {
			return
		}
		n := rule.notice(r, version{content: content, mtime: time.Now()})
		if n.ID == "" || len(n.ID) > maxWord+len("file-") || n.Deadline.IsZero() && r.Deadline == nil || n.Source != Name {
			t.Errorf("%q: %+v", content, n)
		}
		switch n.Kind {
		case providers.Preemption, providers.Drain, providers.Rebalance, providers.Maintenance, providers.Cordon, providers.Pause:
		default:
			t.Errorf("%q: kind %q", content, n.Kind)
		}
		for _, e := range n.Executors {
			if !word(e) {
				t.Errorf("%q: executor %q", content, e)
			}
		}
	})
}
