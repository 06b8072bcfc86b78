package object

import (
	"fmt"
	"strings"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// Settings say how a storage is reached.
type Settings = bucket.Settings

// fallbackPath is Spark's property (o.a.s.internal.config.STORAGE_DECOMMISSION_FALLBACK_STORAGE_PATH, 3.1 and later).
const fallbackPath = "spark.storage.decommission.fallbackStorage.path"

// FallbackPath is where an application reads copies from; "" when it does not: then only executors can take
// what it needs.
func FallbackPath(sparkProps map[string]string) string {
	return strings.TrimSpace(sparkProps[fallbackPath])
}

// Overrides are what the agent's configuration says about storage; what is zero is the application's to say.
type Overrides struct {
	Endpoint  string
	Region    string
	PathStyle *bool
	// CredentialsFromApplication also reads keys from the application's configuration. Without it they are never
	// looked at.
	CredentialsFromApplication bool
}

// SettingsFor reads from an application's own Spark properties how it reaches the storage of a URL. The errors are
// of the kind bucket.Misplaced: a setting that can't be understood, or one that would keep the application's
// executors from reading what is stored.
func SettingsFor(url string, sparkProps map[string]string, o Overrides) (Settings, error) {
	place, err := bucket.Parse(url)
	if err != nil {
		return Settings{}, err
	}
	var s Settings
	switch place.Scheme {
	case "s3", "s3a":
		s, err = s3Settings(place, properties(sparkProps), o)
	case "gs":
		s, err = gcsSettings(place, properties(sparkProps), o)
	case "abfs", "abfss", "wasb", "wasbs":
		s, err = azureSettings(place, properties(sparkProps), o)
	case "file":
	default:
		err = unknownScheme(place)
	}
	if err != nil {
		return Settings{}, err
	}
	if o.Endpoint != "" {
		s.Endpoint = o.Endpoint
	}
	if o.Region != "" {
		s.Region = o.Region
	}
	if o.PathStyle != nil {
		s.PathStyle = *o.PathStyle
	}
	return s, nil
}

func unknownScheme(p bucket.Place) error {
	return &bucket.Error{Op: "open", URL: p.String(), Kind: bucket.Misplaced,
		Err: fmt.Errorf("scheme %q is none of s3, s3a, gs, abfs, abfss, wasb, wasbs, file", p.Scheme)}
}

// properties are Spark's properties, of which those of Hadoop begin with spark.hadoop.
type properties map[string]string

// hadoop is a Hadoop property without spaces around it; "" when it is not set.
func (p properties) hadoop(name string) string { return strings.TrimSpace(p["spark.hadoop."+name]) }
