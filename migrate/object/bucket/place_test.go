package bucket

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for url, want := range map[string]Place{
		"s3a://shuffle/fallback/":              {"s3a", "shuffle", "fallback"},
		"S3://b":                               {"s3", "b", ""},
		"gs://b//a/b/":                         {"gs", "b", "a/b"},
		"abfss://c@a.dfs.core.windows.net/x y": {"abfss", "c@a.dfs.core.windows.net", "x y"},
		"file:///var/lib/x/":                   {"file", "", "var/lib/x"},
		"file:/var/lib/x":                      {"file", "", "var/lib/x"},
		"s3a://b/a%20b":                        {"s3a", "b", "a%20b"},
	} {
		got, err := Parse(url)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v", url, got, err)
			continue
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q: read again as %+v, %v", got, again, err)
		}
	}
	for _, url := range []string{
		"", "/var/lib/x", "s3a", "s3a:b", "://b", "s3a://b/a/../c", "s3a://b/a//c", "s3a://b/./c", "s3a://key:hunter2@b/x",
		"s3a://b/x?versionId=hunter2", "s3a://b/x#hunter2", "s3a://b/\x00", "s3a://b/" + strings.Repeat("x", maxURL),
	} {
		_, err := Parse(url)
		if err == nil || KindOf(err) != Misplaced || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Parse(%q): %v", url, err)
		}
	}
}

func TestKeys(t *testing.T) {
	p := Place{"s3", "b", "x/y"}
	if key, err := p.Key("a/0"); err != nil || key != "x/y/a/0" {
		t.Errorf("%q, %v", key, err)
	}
	if rel, ok := p.Relative("x/y/a/0"); !ok || rel != "a/0" {
		t.Errorf("%q, %v", rel, ok)
	}
	if _, ok := p.Relative("x/yz"); ok {
		t.Error("x/yz taken for a key below x/y")
	}
	for _, key := range []string{"", "/a", "a/", "a//b", "..", "a/../b", ".", "a\\b", "a\nb", "a\xFFb", strings.Repeat("x", maxKey+1)} {
		if _, err := p.Key(key); err == nil || KindOf(err) != Misplaced {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("s3a://b/a/b")
	f.Add("file:/x")
	f.Add("abfss://c@a/x/")
	f.Fuzz(func(t *testing.T, url string) {
		p, err := Parse(url)
		if err != nil {
			return
		}
		if again, err := Parse(p.String()); err != nil || again != p {
			t.Errorf("%q gives %+v, and that %+v, %v", url, p, again, err)
		}
	})
}
