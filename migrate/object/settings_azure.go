package object

import (
	"errors"
	"net/url"
	"strings"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// azureSettings reads what hadoop-azure would (o.a.h.fs.azurebfs.constants.ConfigurationKeys, Hadoop 3.3 and 3.4): a name
// with the account's host at its end comes before the bare one.
func azureSettings(place bucket.Place, p properties, o Overrides) (Settings, error) {
	container, host, _ := strings.Cut(place.Authority, "@")
	get := func(name string) string {
		if v := p.hadoop(name + "." + host); v != "" {
			return v
		}
		return p.hadoop(name)
	}
	fail := func(why string) (Settings, error) {
		return Settings{}, place.Fail("open", "", bucket.Misplaced, errors.New(why))
	}
	for _, name := range []string{
		"fs.azure.encryption.encoded.client-provided-key", "fs.azure.encryption.context.provider.type", "fs.azure.client-provided-encryption-key",
	} {
		if get(name) != "" {
			return fail(name + " of the application: objects with keys of its own can't be written by Lifeboat; set objects.path to another container")
		}
	}
	var s Settings
	if !o.CredentialsFromApplication {
		return s, nil
	}
	switch strings.ToLower(get("fs.azure.account.auth.type")) {
	case "", "sharedkey":
		s.Credentials.Secret = get("fs.azure.account.key")
	case "sas":
		s.Credentials.Token = get("fs.azure.sas.fixed.token")
	case "oauth":
		if !strings.HasSuffix(get("fs.azure.account.oauth.provider.type"), "ClientCredsTokenProvider") {
			break // an identity of the machine, which the agent has too
		}
		s.Credentials = bucket.Credentials{
			ID: get("fs.azure.account.oauth2.client.id"), Secret: get("fs.azure.account.oauth2.client.secret"),
			Tenant: tenant(get("fs.azure.account.oauth2.client.endpoint")),
		}
		if s.Credentials.ID == "" || s.Credentials.Secret == "" || s.Credentials.Tenant == "" {
			return fail("fs.azure.account.oauth2.client of the application: id, secret and endpoint must all be set")
		}
	}
	if s.Credentials == (bucket.Credentials{}) { // the old name for wasb
		s.Credentials.Token = p.hadoop("fs.azure.sas." + container + "." + host)
	}
	return s, nil
}

// tenant is the first part of the path of a token endpoint, as https://login.microsoftonline.com/TENANT/oauth2/token.
func tenant(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return first
}
