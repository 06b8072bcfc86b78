package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/lifeboat/lifeboat/agent/journal"
	"github.com/lifeboat/lifeboat/providers"
)

const (
	fileName = "report.json"
	// maxReport caps what is read back: examples are capped, so a report of a hundred applications is a few MB.
	maxReport = 64 << 20
	// recent is how many reports are looked at for one that must be new.
	recent = 5
)

// ErrNotFound says that no report has this id.
var ErrNotFound = errors.New("no such report")

// Write puts the report into its rescue's folder as a whole or not at all. The folder must exist.
func Write(state string, r *Report) error {
	if !journal.ValidID(r.ID) {
		return fmt.Errorf("report: %q is no rescue id", r.ID)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := replace(filepath.Join(journal.Folder(state, r.ID), fileName), append(data, '\n')); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// replace writes beside the file, to the disk, and then renames.
func replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".report-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return journal.SyncFolder(dir)
}

// List returns the newest n reports, newest first; n <= 0 is all. Reports that can't be read are in the error,
// beside the others. Rescues without a report (running, or interrupted) are left out.
func List(state string, n int) ([]*Report, error) {
	ids, err := journal.IDs(state)
	if err != nil {
		return nil, err
	}
	var list []*Report
	var bad []error
	for _, id := range slices.Backward(ids) {
		if n > 0 && len(list) == n {
			break
		}
		r, err := read(state, id)
		switch {
		case err == nil:
			list = append(list, r)
		case !errors.Is(err, fs.ErrNotExist):
			bad = append(bad, err)
		}
	}
	return list, errors.Join(bad...)
}

// For returns the report of the rescue that served a notice, or nil while there is none among the newest.
func For(state, noticeID string) (*Report, error) {
	list, err := List(state, recent)
	for _, r := range list {
		if r.Notice.ID == noticeID || slices.ContainsFunc(r.Merged, func(n providers.Notice) bool { return n.ID == noticeID }) {
			return r, nil
		}
	}
	return nil, err
}

// Load reads the report with this id, or the only one whose id begins or ends with it: the last four
// letters are the quickest to type. An unknown id is ErrNotFound.
func Load(state, id string) (*Report, error) {
	if journal.ValidID(id) {
		r, err := read(state, id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, missing(state, id)
		}
		return r, err
	}
	ids, err := journal.IDs(state)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(s string) bool {
		return id == "" || !strings.HasPrefix(s, id) && !strings.HasSuffix(s, "-"+id)
	})
	switch len(ids) {
	case 0:
		return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
	case 1:
		return Load(state, ids[0])
	}
	return nil, fmt.Errorf("%q is not unique: %s", id, strings.Join(ids, ", "))
}

// missing tells a rescue without a report from no rescue at all.
func missing(state, id string) error {
	if _, err := os.Stat(journal.Folder(state, id)); err == nil {
		return fmt.Errorf("%w: rescue %s has none yet: it runs, or was interrupted", ErrNotFound, id)
	}
	return fmt.Errorf("%w: %q", ErrNotFound, id)
}

func read(state, id string) (*Report, error) {
	path := filepath.Join(journal.Folder(state, id), fileName)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if len(data) > maxReport {
		return nil, fmt.Errorf("report: %s is larger than %d bytes", path, maxReport)
	}
	r := new(Report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("report: %s: %w", path, err)
	}
	return r, nil
}
