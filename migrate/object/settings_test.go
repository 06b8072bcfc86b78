package object

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

func TestSettingsFor(t *testing.T) {
	yes := true
	for name, c := range map[string]struct {
		props map[string]string
		o     Overrides
		want  Settings
	}{
		"nothing":          {want: Settings{}},
		"central endpoint": {props: map[string]string{"spark.hadoop.fs.s3a.endpoint": " s3.amazonaws.com "}},
		"a private store": {
			props: map[string]string{
				"spark.hadoop.fs.s3a.endpoint": "minio:9000", "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
				"spark.hadoop.fs.s3a.path.style.access": "TRUE", "spark.hadoop.fs.s3a.endpoint.region": "eu-central-1",
			},
			want: Settings{Endpoint: "http://minio:9000", PathStyle: true, Region: "eu-central-1"},
		},
		"of the bucket first": {
			props: map[string]string{
				"spark.hadoop.fs.s3a.endpoint": "https://a", "spark.hadoop.fs.s3a.bucket.b.endpoint": "b:1",
				"spark.hadoop.fs.s3a.bucket.other.endpoint": "c",
			},
			want: Settings{Endpoint: "https://b:1"},
		},
		"keys are not looked at": {
			props: map[string]string{"spark.hadoop.fs.s3a.access.key": "id", "spark.hadoop.fs.s3a.secret.key": "hunter2"},
		},
		"keys are asked for": {
			props: map[string]string{
				"spark.hadoop.fs.s3a.access.key": "id", "spark.hadoop.fs.s3a.bucket.b.secret.key": "hunter2",
				"spark.hadoop.fs.s3a.session.token": "t",
			},
			o:    Overrides{CredentialsFromApplication: true},
			want: Settings{Credentials: bucket.Credentials{ID: "id", Secret: "hunter2", Token: "t"}},
		},
		"encryption": {
			props: map[string]string{"spark.hadoop.fs.s3a.encryption.algorithm": "SSE-KMS", "spark.hadoop.fs.s3a.encryption.key": "k"},
			want:  Settings{Encryption: bucket.Encryption{Algorithm: "aws:kms", Key: "k"}},
		},
		"old name of encryption": {
			props: map[string]string{"spark.hadoop.fs.s3a.server-side-encryption-algorithm": "aes256"},
			want:  Settings{Encryption: bucket.Encryption{Algorithm: "AES256"}},
		},
		"overrides": {
			props: map[string]string{"spark.hadoop.fs.s3a.endpoint": "a", "spark.hadoop.fs.s3a.endpoint.region": "x"},
			o:     Overrides{Endpoint: "http://z", Region: "y", PathStyle: &yes},
			want:  Settings{Endpoint: "http://z", Region: "y", PathStyle: true},
		},
	} {
		got, err := SettingsFor("s3a://b/x", c.props, c.o)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if s := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(s, "hunter2") {
			t.Errorf("%s: %s", name, s)
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	for name, props := range map[string]map[string]string{
		"no boolean":     {"spark.hadoop.fs.s3a.path.style.access": "maybe"},
		"no boolean TLS": {"spark.hadoop.fs.s3a.connection.ssl.enabled": "x"},
		"client side":    {"spark.hadoop.fs.s3a.encryption.algorithm": "CSE-KMS"},
		"half a key":     {"spark.hadoop.fs.s3a.access.key": "id"},
	} {
		_, err := SettingsFor("s3a://b/x", props, Overrides{CredentialsFromApplication: true})
		if err == nil || bucket.KindOf(err) != bucket.Misplaced {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, url := range []string{"hdfs://n/x", "b/x", ""} {
		if _, err := SettingsFor(url, nil, Overrides{}); err == nil || bucket.KindOf(err) != bucket.Misplaced {
			t.Errorf("%s: %v", url, err)
		}
		if _, err := Open(t.Context(), url, Settings{}); err == nil || bucket.KindOf(err) != bucket.Misplaced {
			t.Errorf("open %s: %v", url, err)
		}
	}
	if got := FallbackPath(map[string]string{fallbackPath: " s3a://b/x "}); got != "s3a://b/x" {
		t.Errorf("%q", got)
	}
}
