package executor

import (
	"bufio"
	"os"
	"path"
	"strings"

	"github.com/prometheus/procfs"
)

// parseCoreJar takes the versions from the name of Spark's core jar, as in
// spark-core_2.13-4.3.0.jar or spark-core_2.12-3.5.0-amzn-1.jar.
func parseCoreJar(file string) (spark, scala string, ok bool) {
	name := path.Base(strings.TrimSuffix(file, " (deleted)"))
	name, ok = strings.CutPrefix(name, "spark-core_")
	if !ok {
		return "", "", false
	}
	if name, ok = strings.CutSuffix(name, ".jar"); !ok || len(name) > 100 {
		return "", "", false
	}
	scala, spark, ok = strings.Cut(name, "-")
	if !ok || !dotted(scala) || spark == "" || spark[0] < '0' || spark[0] > '9' {
		return "", "", false
	}
	for _, classifier := range []string{"-tests", "-sources", "-javadoc"} {
		if strings.HasSuffix(spark, classifier) {
			return "", "", false
		}
	}
	return spark, scala, true
}

// dotted is true for two or more numbers with dots between them.
func dotted(version string) bool {
	parts := strings.Split(version, ".")
	for _, part := range parts {
		if part == "" || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return len(parts) >= 2
}

// versions looks for the core jar among the files that the JVM has open (JDK 9 and later), has
// mapped (JDK 8), or was told of. A class path that ends in /* names no jar: then the first two answer.
func versions(fs procfs.FS, proc string, pid int, classPath string) (spark, scala string) {
	if p, err := fs.Proc(pid); err == nil {
		targets, _ := p.FileDescriptorTargets() // unreadable: the other two places may still tell
		for _, target := range targets {
			if spark, scala, ok := parseCoreJar(target); ok {
				return spark, scala
			}
		}
	}
	for entry := range strings.SplitSeq(classPath, ":") {
		if spark, scala, ok := parseCoreJar(entry); ok {
			return spark, scala
		}
	}
	return mappedVersions(procPath(proc, pid, "maps"))
}

// mappedVersions reads line by line: a JVM's map can be megabytes long.
func mappedVersions(maps string) (spark, scala string) {
	f, err := os.Open(maps)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if spark, scala, ok := parseCoreJar(lines.Text()); ok {
			return spark, scala
		}
	}
	return "", ""
}
