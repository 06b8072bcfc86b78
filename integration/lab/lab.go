// Package lab runs real Spark standalone clusters on this machine for the integration tests, the
// benchmarks and the demo: every node is one worker on a loopback address of its own, with its own
// processes and folders, and can be taken away as a spot node is. It stands outside the way of a
// rescue and watches it.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// poll is how often a condition is looked at.
const poll = 50 * time.Millisecond

// patience is how long Until waits where ctx sets no end: a condition that never holds must not hold up all other tests.
const patience = 5 * time.Minute

// Until looks at a condition again and again until it holds. An error of the condition ends it; so does
// ctx, and the error then says what was waited for. Use it in place of every sleep.
func Until(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	if _, ends := ctx.Deadline(); !ends {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		ok, err := holds(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// logMatch waits for a line in the process's log and returns the first submatch.
func (p *process) logMatch(ctx context.Context, what, pattern string) (string, error) {
	re := regexp.MustCompile(pattern)
	var found string
	err := p.waitFor(ctx, what, func(context.Context) (bool, error) {
		text, err := os.ReadFile(p.log)
		if err != nil {
			return false, err
		}
		m := re.FindSubmatch(text)
		if m == nil {
			return false, nil
		}
		found = string(m[1])
		return true, nil
	})
	return found, err
}

// Tail is the end of a text file, for error messages.
func Tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return string(bytes.Join(all, []byte("\n")))
}

// base is the environment that every process of the lab gets: nothing of the caller's Spark or Python
// settings leaks in.
func (c *Cluster) base(tmp string, more ...string) []string {
	env := []string{
		"PATH=" + c.java + "/bin:" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8",
		"JAVA_HOME=" + c.java,
		"SPARK_HOME=" + c.spark, "SPARK_CONF_DIR=" + c.spark + "/conf", // not there: the class archive wants the same class path always
		"SPARK_LAUNCHER_OPTS=" + smallJVM, "SPARK_USER=lab", "TMPDIR=" + tmp,
		"JDK_JAVA_OPTIONS=" + c.everyJVM(tmp),
		"PYSPARK_PYTHON=" + c.python, "PYSPARK_DRIVER_PYTHON=" + c.python,
		"SPARK_DAEMON_MEMORY=256m",
	}
	if c.jars != "" {
		env = append(env, "SPARK_DIST_CLASSPATH="+c.jars+"/*") // after Spark's own: the class archive still fits
	}
	return append(env, more...)
}

// everyJVM are options for all JVMs; executors inherit them: nothing is left in /tmp.
func (c *Cluster) everyJVM(tmp string) string {
	return "-XX:-UsePerfData -Djava.io.tmpdir=" + tmp + " -Dlog4j2.configurationFile=" + filepath.Join(c.dir, "log4j2.properties")
}

// smallJVM are options for JVMs that have to start fast and do little.
const smallJVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"

// quickJVM are those options for JVMs that run Spark: its classes come from an archive made when it was
// installed. Both together take two thirds off the CPU time of a start.
func (c *Cluster) quickJVM() string {
	return smallJVM + " -XX:SharedArchiveFile=" + filepath.Join(c.spark, "spark.jsa")
}

// definitions are settings as a JVM's -D options, in a fixed order.
func definitions(conf map[string]string) string {
	var b strings.Builder
	for _, k := range sorted(conf) {
		fmt.Fprintf(&b, " -D%s=%s", k, conf[k])
	}
	return b.String()
}

// ErrNotFound says that the lab knows no such application, stage or executor.
var ErrNotFound = errors.New("not found")
