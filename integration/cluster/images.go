package cluster

import (
	"context"
	"crypto/sha256"
	_ "embed" // what the images hold beside programs
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lifeboat/lifeboat/integration/tools"
)

//go:embed image/ShuffleJob.scala
var jobSource string

//go:embed image/LabDrain.scala
var drainSource string

//go:embed image/entrypoint.sh
var entrypointSource string

//go:embed image/decom.sh
var decomSource string

//go:embed image/archive.sh
var archiveSource string

// The images that every node has. Those of Spark have its version as their tag.
const (
	BusyboxImage = "lab.local/busybox:1"
	sparkImage   = "lab.local/spark:"
)

// SparkImage is the image of a version of Spark: with Java, a shell, Spark's own jars, and the job that Job runs.
func SparkImage(version string) string { return sparkImage + version }

// imageRecipe is raised when what is made of the sources changes.
const imageRecipe = 1

// parts are the folders of the cache of which images are made.
type parts struct {
	containers, base, java, csi string
	spark                       map[string]string // by version
}

func findParts(ctx context.Context, versions []string, log io.Writer) (p parts, err error) {
	p.spark = make(map[string]string)
	for name, to := range map[string]*string{"containers": &p.containers, "imagebase": &p.base, "java": &p.java, "csi": &p.csi} {
		if *to, err = tools.Path(ctx, name, log); err != nil {
			return p, err
		}
	}
	for _, v := range versions {
		if p.spark[v], err = tools.Path(ctx, "spark-"+v, log); err != nil {
			return p, err
		}
	}
	return p, nil
}

// key names what the images of one version of Spark, or the small ones (""), are made of: the names of folders of the cache end in
// the hash of their content.
func (p parts) key(version string) string {
	sum := sha256.New()
	fmt.Fprintln(sum, imageRecipe, filepath.Base(p.containers))
	if version != "" {
		fmt.Fprintln(sum, filepath.Base(p.base), filepath.Base(p.java), filepath.Base(p.spark[version]))
		for _, source := range []string{jobSource, drainSource, entrypointSource, decomSource, archiveSource, javaOptions} {
			fmt.Fprintln(sum, source)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// busybox is a shell and everyday programs; its image also keeps the namespaces of pods open.
func (p parts) busybox(ctx context.Context) (image, error) {
	shell, err := p.shell(ctx)
	if err != nil {
		return image{}, err
	}
	shell = append(shell, entry{to: "tmp", dir: true, mode: os.ModeSticky | 0o777})
	return image{
		ref: BusyboxImage, layers: []layer{shell},
		config: imageConfig{Entrypoint: []string{"/bin/sleep", "2147483647"}, Env: []string{"PATH=/bin"}},
	}, nil
}

// shell is busybox under all the names of its programs.
func (p parts) shell(ctx context.Context) (layer, error) {
	program := filepath.Join(p.containers, "bin", "busybox")
	names, err := exec.CommandContext(ctx, program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("programs of busybox: %w", err)
	}
	all := layer{{to: "bin", dir: true}, {to: "bin/busybox", tree: program}}
	for _, name := range strings.Fields(string(names)) {
		if name != "busybox" {
			all = append(all, entry{to: "bin/" + name, link: "busybox"})
		}
	}
	return all, nil
}

// javaOptions let JVMs start fast, and run small.
const javaOptions = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"

// archive lets Java map Spark's classes, and say nothing when it can't.
const archive = " -XX:SharedArchiveFile=/opt/spark/spark.jsa -Xlog:disable -Xlog:all=error:stderr"

// sparkImage is laid out as Spark's own: entrypoint and decommission script in /opt, Spark in /opt/spark, user 185.
// What the folder made holds is from makeJob.
func (p parts) sparkImage(ctx context.Context, version, made string) (image, error) {
	base, err := p.shell(ctx)
	if err != nil {
		return image{}, err
	}
	base = append(base,
		entry{to: ".", tree: filepath.Join(p.base, "root")},
		entry{to: "tmp", dir: true, mode: os.ModeSticky | 0o777},
		entry{to: "usr/bin/env", link: "/bin/env"},
		entry{to: "etc/passwd", data: []byte("root:x:0:0::/root:/bin/sh\nspark:x:185:0::/opt/spark:/bin/sh\n")},
		entry{to: "etc/group", data: []byte("root:x:0:\n")},
		entry{to: "opt/java", tree: p.java},
	)
	home := p.spark[version]
	return image{
		ref: SparkImage(version),
		config: imageConfig{
			User: "185", WorkingDir: "/opt/spark/work-dir", Entrypoint: []string{"/opt/entrypoint.sh"},
			Env: []string{
				"PATH=/opt/java/bin:/usr/bin:/bin", "SPARK_HOME=/opt/spark", "JAVA_HOME=/opt/java",
				"SPARK_SUBMIT_OPTS=" + javaOptions + archive, "SPARK_LAUNCHER_OPTS=" + javaOptions,
			},
		},
		layers: []layer{base, {
			{to: "opt/spark", dir: true},
			{to: "opt/spark/bin", tree: filepath.Join(home, "bin")},
			{to: "opt/spark/jars", tree: filepath.Join(home, "jars")},
			{to: "opt/spark/conf", dir: true},
			{to: "opt/spark/work-dir", dir: true, mode: 0o777},
		}, {
			{to: "opt/entrypoint.sh", data: []byte(entrypointSource), mode: 0o755},
			{to: "opt/decom.sh", data: []byte(decomSource), mode: 0o755},
			{to: "opt/job/job.jar", tree: filepath.Join(made, "job.jar")},
			{to: "opt/spark/spark.jsa", tree: filepath.Join(made, "spark.jsa")},
			{to: "opt/spark/classpath", tree: filepath.Join(made, "classpath")},
		}},
	}, nil
}

// makeJob makes the jar of the job, with the Scala compiler that Spark's shell brings, and the archive of all classes, in a folder.
func (p parts) makeJob(ctx context.Context, version, dir string) error {
	args := []string{
		"-XX:+UseSerialGC", "-cp", filepath.Join(p.spark[version], "jars", "*"),
		"scala.tools.nsc.Main", "-usejavacp", "-d", filepath.Join(dir, "job.jar"),
	}
	for name, source := range map[string]string{"ShuffleJob.scala": jobSource, "LabDrain.scala": drainSource} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			return err
		}
		args = append(args, file)
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(p.java, "bin", "java"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("compile the job for Spark %s: %w\n%s", version, err, out)
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", archiveSource)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "WORK=" + dir, "BASE=" + p.base, "JAVA=" + p.java, "SPARK=" + p.spark[version],
		"JOB=" + filepath.Join(dir, "job.jar"), "OPTIONS=" + javaOptions,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("archive the classes of Spark %s: %w\n%s", version, err, out)
	}
	return nil
}
