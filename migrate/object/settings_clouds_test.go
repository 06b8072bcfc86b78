package object

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

func TestSettingsForClouds(t *testing.T) {
	const (
		gs   = "gs://b/x"
		abfs = "abfss://c@account.dfs.core.windows.net/x"
		host = ".account.dfs.core.windows.net"
		wasb = "wasbs://c@account.blob.core.windows.net/x"
	)
	key := func(name string, secret string) map[string]string {
		return map[string]string{"spark.hadoop." + name: secret}
	}
	oauth := map[string]string{
		"spark.hadoop.fs.azure.account.auth.type":               "OAuth",
		"spark.hadoop.fs.azure.account.oauth.provider.type":     "org.apache.hadoop.fs.azurebfs.oauth2.ClientCredsTokenProvider",
		"spark.hadoop.fs.azure.account.oauth2.client.id" + host: "id", "spark.hadoop.fs.azure.account.oauth2.client.secret": "hunter2",
		"spark.hadoop.fs.azure.account.oauth2.client.endpoint": "https://login.microsoftonline.com/tenant/oauth2/token",
	}
	ask := Overrides{CredentialsFromApplication: true}
	for name, c := range map[string]struct {
		url   string
		props map[string]string
		o     Overrides
		want  Settings
	}{
		"gs: nothing":                {url: gs},
		"gs: root":                   {url: gs, props: key("fs.gs.storage.root.url", "https://private.example.com/"), want: Settings{Endpoint: "https://private.example.com"}},
		"gs: override":               {url: gs, props: key("fs.gs.storage.root.url", "a"), o: Overrides{Endpoint: "http://z"}, want: Settings{Endpoint: "http://z"}},
		"gs: keys are not looked at": {url: gs, props: key("fs.gs.auth.service.account.private.key", "hunter2")},
		"gs: key": {url: gs, o: ask, props: map[string]string{
			"spark.hadoop.fs.gs.auth.service.account.email": "a@b", "spark.hadoop.fs.gs.auth.service.account.private.key": `-----\nhunter2`,
		}, want: Settings{Credentials: bucket.Credentials{ID: "a@b", Secret: "-----\nhunter2"}}},
		"gs: a key in a file":           {url: gs, o: ask, props: key("fs.gs.auth.service.account.email", "a@b")},
		"azure: nothing":                {url: abfs},
		"azure: override":               {url: wasb, o: Overrides{Endpoint: "http://z"}, want: Settings{Endpoint: "http://z"}},
		"azure: keys are not looked at": {url: abfs, props: key("fs.azure.account.key"+host, "hunter2")},
		"azure: key":                    {url: abfs, o: ask, props: key("fs.azure.account.key"+host, "hunter2"), want: Settings{Credentials: bucket.Credentials{Secret: "hunter2"}}},
		"azure: key of another account": {url: abfs, o: ask, props: key("fs.azure.account.key.other.dfs.core.windows.net", "hunter2")},
		"azure: signature": {url: abfs, o: ask, props: map[string]string{
			"spark.hadoop.fs.azure.account.auth.type" + host: "SAS", "spark.hadoop.fs.azure.sas.fixed.token": "hunter2",
		}, want: Settings{Credentials: bucket.Credentials{Token: "hunter2"}}},
		"azure: signature for wasb": {url: wasb, o: ask, props: key("fs.azure.sas.c.account.blob.core.windows.net", "hunter2"),
			want: Settings{Credentials: bucket.Credentials{Token: "hunter2"}}},
		"azure: client secret": {url: abfs, o: ask, props: oauth, want: Settings{Credentials: bucket.Credentials{ID: "id", Secret: "hunter2", Tenant: "tenant"}}},
		"azure: managed identity": {url: abfs, o: ask, props: map[string]string{
			"spark.hadoop.fs.azure.account.auth.type":           "OAuth",
			"spark.hadoop.fs.azure.account.oauth.provider.type": "org.apache.hadoop.fs.azurebfs.oauth2.MsiTokenProvider",
		}},
	} {
		got, err := SettingsFor(c.url, c.props, c.o)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if s := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(s, "hunter2") {
			t.Errorf("%s: %s", name, s)
		}
	}
	for url, props := range map[string]map[string]string{
		gs:          key("fs.gs.encryption.key", "hunter2"),
		gs + "/two": key("fs.gs.auth.service.account.private.key", "hunter2"),
		abfs:        key("fs.azure.encryption.encoded.client-provided-key", "hunter2"),
		wasb: {
			"spark.hadoop.fs.azure.account.auth.type":           "OAuth",
			"spark.hadoop.fs.azure.account.oauth.provider.type": "org.apache.hadoop.fs.azurebfs.oauth2.ClientCredsTokenProvider",
		},
	} {
		_, err := SettingsFor(url, props, ask)
		if err == nil || bucket.KindOf(err) != bucket.Misplaced || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
