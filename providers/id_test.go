package providers

import (
	"strings"
	"testing"
)

func TestEventID(t *testing.T) {
	for name, c := range map[string]struct {
		parts []string
		want  string // "": any that is safe
	}{
		"uuid":     {[]string{"C7061BAC-AFDC-4513-B24B-AA5F13A16123"}, "src-C7061BAC-AFDC-4513-B24B-AA5F13A16123"},
		"two":      {[]string{"stop", "2027-01-02T03:04:05Z"}, "src-stop-2027-01-02T03:04:05Z"},
		"none":     {nil, "src"},
		"empty":    {[]string{""}, ""},
		"long":     {[]string{strings.Repeat("a", 65)}, ""},
		"path":     {[]string{"../../etc/passwd"}, ""},
		"dots":     {[]string{".."}, ""},
		"newline":  {[]string{"a\nb"}, ""},
		"umlaut":   {[]string{"ä"}, ""},
		"not utf8": {[]string{"\xff"}, ""},
		"nul":      {[]string{"a\x00"}, ""},
	} {
		got := EventID("src", c.parts...)
		if c.want != "" && got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if c.want == "" && (len(got) != len("src-x")+16 || !plain(strings.TrimPrefix(got, "src-"))) {
			t.Errorf("%s: %q", name, got)
		}
		if again := EventID("src", c.parts...); again != got {
			t.Errorf("%s: %q and %q", name, got, again)
		}
	}
	if EventID("src", "a b") == EventID("src", "a c") {
		t.Error("two events have one id")
	}
}
