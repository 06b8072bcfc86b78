package object

import (
	"errors"
	"strings"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// gcsSettings reads what Google's connector for Hadoop would (hadoop-connectors, gcs/CONFIGURATION.md, 2.2 and 3.0).
func gcsSettings(place bucket.Place, p properties, o Overrides) (Settings, error) {
	s := Settings{Endpoint: strings.TrimRight(p.hadoop("fs.gs.storage.root.url"), "/")}
	if p.hadoop("fs.gs.encryption.key") != "" {
		return Settings{}, place.Fail("open", "", bucket.Misplaced, errors.New("fs.gs.encryption.key of the application: objects "+
			"with customer-supplied keys can't be written by Lifeboat; set objects.path to another bucket"))
	}
	if o.CredentialsFromApplication {
		s.Credentials = bucket.Credentials{
			ID: p.hadoop("fs.gs.auth.service.account.email"),
			// In a property a line break is often written as two characters.
			Secret: strings.ReplaceAll(p.hadoop("fs.gs.auth.service.account.private.key"), `\n`, "\n"),
		}
		if s.Credentials.Secret == "" { // it is in a file, which the agent does not have
			s.Credentials = bucket.Credentials{}
		}
		if s.Credentials.Secret != "" && s.Credentials.ID == "" {
			return Settings{}, place.Fail("open", "", bucket.Misplaced,
				errors.New("fs.gs.auth.service.account.email of the application is missing, though its private key is there"))
		}
	}
	return s, nil
}
