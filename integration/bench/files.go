package main

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// file is one shuffle file of an executor.
type file struct {
	name  string
	bytes int64
	born  time.Time // when its first byte came
	named time.Time // when it got its name: Spark writes under another one
}

var shuffleName = regexp.MustCompile(`^shuffle_(\d+)_\d+_0\.(index|data)$`)

// shuffleFiles are the committed shuffle files below some folders. The times are those of the file
// system, whose clock ticks every 4 ms or finer.
func shuffleFiles(dirs []string) ([]file, error) {
	var found []file
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			m := shuffleName.FindStringSubmatch(d.Name())
			if m == nil || m[1] == strconv.Itoa(warmShuffle) {
				return nil
			}
			var st unix.Statx_t
			if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
				return &fs.PathError{Op: "statx", Path: path, Err: err}
			}
			found = append(found, file{name: d.Name(), bytes: int64(st.Size), born: moment(st.Btime), named: moment(st.Ctime)})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func moment(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }
