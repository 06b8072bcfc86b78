// Package tools finds the pinned programs that the tests need (Java, Spark, toxiproxy, linters), and
// installs what is missing. It stands beside the way of a rescue: only tests and the demo use it.
package tools

import (
	"bytes"
	"context"
	_ "embed" // the installer travels inside the test binary
	"fmt"
	"io"
	"os/exec"
	"strings"
)

//go:embed install.sh
var installer string

// Path returns the folder of a tool in the cache, and installs it first when it is missing: minutes
// then, milliseconds otherwise. Names are those of install.sh: "java", "spark-4.3.0", "hadoop-aws-4.3.0", "toxiproxy", …
// Progress goes to log.
func Path(ctx context.Context, name string, log io.Writer) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", installer, "install.sh", name)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, log
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	return strings.TrimSpace(out.String()), nil
}
