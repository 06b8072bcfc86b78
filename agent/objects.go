package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// errNoObjects says that there is no object storage for an application; waiting changes nothing about that. The other
// two say that nobody wanted any.
var (
	errNoObjects    = errors.New("no object storage")
	errObjectsOff   = fmt.Errorf("%w: switched off by destinations", errNoObjects)
	errObjectsUnset = fmt.Errorf("%w: neither spark.storage.decommission.fallbackStorage.path nor objects.path is set", errNoObjects)
)

// objectPlace is where copies of one application go, by its own configuration and the agent's.
type objectPlace struct {
	url string
	// read says that the application's executors look there for what they miss: then a copy counts as soon as the driver
	// knows. Any other counts only once it was given back to an executor.
	read     bool
	settings object.Settings
}

// placeObjects decides that from the application's Spark properties. Without any place it is an errNoObjects; errors
// never hold what the properties hold.
func placeObjects(cfg config.Config, props map[string]string) (objectPlace, error) {
	if !cfg.Uses(config.DestinationObjects) {
		return objectPlace{}, errObjectsOff
	}
	own, ours := object.FallbackPath(props), cfg.Objects.Path
	if own == "" && ours == "" {
		return objectPlace{}, errObjectsUnset
	}
	if own != "" && !cfg.Objects.Override {
		p, err := objectPlace{url: own, read: true}.with(cfg, props)
		if err == nil || ours == "" {
			return p, err
		}
	}
	return objectPlace{url: ours, read: sameObjects(own, ours)}.with(cfg, props)
}

// with adds how the place is reached.
func (p objectPlace) with(cfg config.Config, props map[string]string) (objectPlace, error) {
	var err error
	p.settings, err = object.SettingsFor(p.url, props, object.Overrides{
		Endpoint: cfg.Objects.Endpoint, Region: cfg.Objects.Region, PathStyle: pathStyle(cfg.Objects.PathStyle),
		CredentialsFromApplication: cfg.Objects.Credentials,
	})
	if err != nil {
		return objectPlace{}, fmt.Errorf("%w: %w", errNoObjects, err)
	}
	p.settings.PartSize, p.settings.Parallel = int64(cfg.Objects.PartSize)<<20, cfg.Objects.Parts
	p.settings.Stall, p.settings.Timeout = cfg.Objects.Stall, cfg.Objects.Timeout
	return p, nil
}

func pathStyle(text string) *bool {
	on, err := strconv.ParseBool(text)
	if err != nil { // config.PathStyleAuto
		return nil
	}
	return &on
}

// sameObjects says that two URLs are one place: Hadoop has two names for several storages.
func sameObjects(a, b string) bool {
	x, errX := bucket.Parse(a)
	y, errY := bucket.Parse(b)
	if errX != nil || errY != nil {
		return false
	}
	x.Scheme, y.Scheme = commonScheme(x.Scheme), commonScheme(y.Scheme)
	return x == y
}

func commonScheme(s string) string {
	switch s {
	case "s3":
		return "s3a"
	case "abfss":
		return "abfs"
	case "wasbs":
		return "wasb"
	}
	return s
}

// objectStorage is the open object storage of one application.
type objectStorage struct {
	objectPlace
	bucket bucket.Bucket
	cfg    config.Objects
	log    *zap.Logger
}

// openObjects opens what placeObjects decides. Nothing is sent to the bucket; the caller closes it.
func openObjects(ctx context.Context, cfg config.Config, props map[string]string, log *zap.Logger) (*objectStorage, error) {
	p, err := placeObjects(cfg, props)
	if err != nil {
		return nil, err
	}
	b, err := object.Open(ctx, p.url, p.settings)
	if err != nil {
		return nil, err
	}
	return &objectStorage{objectPlace: p, bucket: b, cfg: cfg.Objects, log: log}, nil
}

// destination stores copies of an application. With announce it also tells Spark of each; has knows what lies there
// already. Both may be nil.
func (s *objectStorage) destination(app string, announce object.AnnounceFunc, has func(*migrate.Output) bool, limit object.Limiter) *object.Destination {
	return object.New(object.Options{
		Bucket: s.bucket, App: app, Announce: announce, Has: has, Limiter: limit,
		Parallel: s.cfg.InFlight, Attempts: s.cfg.Attempts, Log: s.log,
	})
}

// waits says that a copy only lies in object storage, where its application does not look for it.
func waits(at migrate.Location) bool { return at.Target.URL != "" && !at.Announced }

// meaning says for people what a copy there is worth.
func (p objectPlace) meaning() string {
	if p.read {
		return "where the application reads them"
	}
	return "where they wait for an executor: the application does not read there"
}

// objectCheck is how long a storage has to answer before it is used: with credentials from a metadata service and a new
// TLS connection that takes longer than a peer.
const objectCheck = 5 * time.Second

// check proves that the storage answers and lets the agent in.
func (s *objectStorage) check(ctx context.Context, app string) error {
	ctx, cancel := context.WithTimeout(ctx, objectCheck)
	defer cancel()
	_, err := s.bucket.Stat(ctx, object.AppPrefix(app)+"0/0/shuffle_0_0_0.index")
	if err != nil && bucket.KindOf(err) != bucket.NotFound {
		return err
	}
	return nil
}

// close lets go of connections.
func (s *objectStorage) close() { _ = s.bucket.Close() }
