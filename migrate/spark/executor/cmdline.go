package executor

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Main classes of the processes that matter (Spark 3.4 to 4.3).
const (
	standaloneBackend = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
	yarnBackend       = "org.apache.spark.executor.YarnCoarseGrainedExecutorBackend"
	kubernetesBackend = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
	workerMain        = "org.apache.spark.deploy.worker.Worker"
)

// jvmCommand is a java command line taken apart as the java launcher does it.
type jvmCommand struct {
	main       string
	args       []string // those of the main class
	classPath  string
	properties map[string]string // the few of -Dname=value that matter here
}

// parseJVM finds the main class at the place where the launcher looks for it. That tells the JVM from
// its wrappers (tini, sh, a script named java), whose command lines hold the same words elsewhere.
func parseJVM(argv []string) (jvmCommand, bool) {
	var c jvmCommand
	for i := 1; i < len(argv); i++ {
		arg := argv[i]
		switch {
		case arg == "-jar" || arg == "-m" || arg == "--module":
			return jvmCommand{}, false
		case takesValue(arg):
			i++
			if i < len(argv) && isClassPath(arg) {
				c.classPath = argv[i]
			}
		case strings.HasPrefix(arg, "-D"):
			c.setProperty(arg[2:])
		case strings.HasPrefix(arg, "--class-path="):
			c.classPath = strings.TrimPrefix(arg, "--class-path=")
		case strings.HasPrefix(arg, "-"), strings.HasPrefix(arg, "@"):
		default:
			c.main, c.args = arg, argv[i+1:]
			return c, true
		}
	}
	return jvmCommand{}, false
}

func (c *jvmCommand) setProperty(text string) {
	name, value, _ := strings.Cut(text, "=")
	if name != "spark.local.dir" && name != "java.io.tmpdir" {
		return
	}
	if c.properties == nil {
		c.properties = make(map[string]string, 2)
	}
	c.properties[name] = value
}

func isClassPath(option string) bool {
	return option == "-cp" || option == "-classpath" || option == "--class-path"
}

// takesValue lists the options of the java launcher whose value is the next word (JDK 8 to 21).
func takesValue(option string) bool {
	switch option {
	case "-p", "--module-path", "--upgrade-module-path", "--add-modules", "--enable-native-access", "--limit-modules",
		"--add-reads", "--add-exports", "--add-opens", "--patch-module", "-d", "--describe-module", "--source":
		return true
	}
	return isClassPath(option)
}

// splitNul splits the content of cmdline or environ. Empty words are kept: arguments may be empty.
func splitNul(b []byte) []string {
	b = bytes.TrimSuffix(b, []byte{0})
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}

// parseSpark recognises the JVM of an executor or a worker; ok is false for every other process.
func parseSpark(comm string, argv []string) (jvmCommand, bool) {
	if len(argv) == 0 || (comm != "java" && path.Base(argv[0]) != "java") {
		return jvmCommand{}, false
	}
	c, ok := parseJVM(argv)
	if !ok {
		return jvmCommand{}, false
	}
	switch c.main {
	case standaloneBackend, yarnBackend, kubernetesBackend, workerMain:
		return c, true
	}
	return jvmCommand{}, false
}

// parseExecutor reads the arguments of an executor's main class (CoarseGrainedExecutorBackend.parseArguments).
func parseExecutor(c jvmCommand) (Executor, error) {
	var e Executor
	for i := 0; i+1 < len(c.args); i += 2 {
		value := c.args[i+1]
		switch c.args[i] {
		case "--driver-url":
			e.DriverURL = value
		case "--executor-id":
			e.ID = value
		case "--hostname":
			e.Host = value
		case "--app-id":
			e.App = value
		case "--resourceProfileId":
			profile, err := strconv.Atoi(value)
			if err != nil {
				return Executor{}, fmt.Errorf("--resourceProfileId: %w", err)
			}
			e.ResourceProfile = profile
		}
	}
	if e.App == "" || e.ID == "" || e.DriverURL == "" {
		return Executor{}, errors.New("no --app-id, --executor-id or --driver-url among the executor's arguments")
	}
	return e, nil
}

// parseWorkerHost finds the host a worker was told to use (WorkerArguments.parse, Utils.localHostName).
func parseWorkerHost(c jvmCommand, env map[string]string) string {
	for i := 0; i+1 < len(c.args); i++ {
		switch c.args[i] {
		case "--host", "-h", "--ip", "-i":
			return c.args[i+1]
		}
	}
	if host := env["SPARK_LOCAL_HOSTNAME"]; host != "" {
		return host
	}
	return env["SPARK_LOCAL_IP"]
}

func manager(main string, env map[string]string) string {
	switch {
	case main == kubernetesBackend:
		return Kubernetes
	case main == yarnBackend || env["CONTAINER_ID"] != "":
		return YARN
	}
	return Standalone
}
