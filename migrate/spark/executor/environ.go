package executor

import (
	"bytes"
	"strings"
)

// wanted lists the variables that are kept. Nothing else of an environment ever leaves
// parseEnviron: secrets lie there (_SPARK_AUTH_SECRET).
func wanted(name string) bool {
	switch name {
	case "SPARK_EXECUTOR_DIRS", "SPARK_LOCAL_DIRS", "LOCAL_DIRS", "CONTAINER_ID", "SPARK_LOCAL_HOSTNAME", "SPARK_LOCAL_IP":
		return true
	}
	return false
}

// parseEnviron picks the wanted variables out of /proc/PID/environ. As in the JVM, the last of
// several settings counts.
func parseEnviron(b []byte) map[string]string {
	env := make(map[string]string)
	for len(b) > 0 {
		var entry []byte
		entry, b, _ = bytes.Cut(b, []byte{0})
		name, value, ok := bytes.Cut(entry, []byte{'='})
		if ok && wanted(string(name)) {
			env[string(name)] = string(value)
		}
	}
	return env
}

// readEnviron reads the wanted variables and wipes the rest from memory.
func readEnviron(proc string, pid int) (map[string]string, error) {
	b, err := readCapped(procPath(proc, pid, "environ"), nil, maxEnviron)
	if err != nil {
		return nil, err
	}
	env := parseEnviron(b)
	clear(b)
	return env, nil
}

// localDirs follows Utils.getConfiguredLocalDirs (Spark 3.4 to 4.3): in a YARN container LOCAL_DIRS
// wins, then SPARK_EXECUTOR_DIRS (set by a standalone worker), then SPARK_LOCAL_DIRS, then the
// properties.
func localDirs(manager string, env, properties map[string]string) []string {
	if manager == YARN && env["LOCAL_DIRS"] != "" {
		return splitDirs(env["LOCAL_DIRS"], ",")
	}
	if dirs := env["SPARK_EXECUTOR_DIRS"]; dirs != "" {
		return splitDirs(dirs, ":")
	}
	return workerDirs(env, properties)
}

// workerDirs is the same for a worker, which hands SPARK_EXECUTOR_DIRS out but does not look at it.
func workerDirs(env, properties map[string]string) []string {
	for _, dirs := range []string{env["SPARK_LOCAL_DIRS"], properties["spark.local.dir"], properties["java.io.tmpdir"]} {
		if dirs != "" {
			return splitDirs(dirs, ",")
		}
	}
	return []string{"/tmp"}
}

func splitDirs(text, separator string) []string {
	var dirs []string
	for dir := range strings.SplitSeq(text, separator) {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
