package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

var errNoFolder = errors.New("there is no such folder: make it, or mount it, on every node")

// notThere marks the root itself as missing, which is another thing than a missing object.
func notThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w (%w)", errNoFolder, err)
	}
	return err
}

func kindOf(err error) bucket.Kind {
	var body *bucket.BodyError
	switch {
	case errors.As(err, &body):
		return bucket.BadBody
	case errors.Is(err, errNoFolder), errors.Is(err, errTaken):
		return bucket.Misplaced
	case errors.Is(err, fs.ErrExist):
		return bucket.Exists
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return bucket.NotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return bucket.Denied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return bucket.Full
	case errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		return bucket.Misplaced
	default:
		return bucket.Unavailable
	}
}
