package executor

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	tail := " S 7 2 3 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 100 200"
	for name, line := range map[string]string{
		"java":            "42 (java)" + tail,
		"a b":             "42 (a b)" + tail,
		"x) S 1 2 (y":     "42 (x) S 1 2 (y)" + tail,
		"Executor task l": "42 (Executor task l)" + tail,
	} {
		st, err := parseStat([]byte(line))
		if err != nil || st.comm != name || st.start != 987654 || st.parent != 7 || st.state != 'S' || st.flags != 4194304 {
			t.Errorf("%q: %+v, %v", line, st, err)
		}
	}
	for _, bad := range []string{"", "42", "42 (java", "42 java) S 1", "42 (java)", "42 (java) S 1 2", "42 (java) S x 2 3 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654"} {
		if st, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: %+v, want an error", bad, st)
		}
	}
}

func TestParseHandles(t *testing.T) {
	for text, want := range map[string]bool{
		"Name:\tjava\nSigCgt:\t0000000020000000\n": true,
		"SigCgt:\t2000000181005ccf":                false,
		"SigCgt:\t20000001a1005ccf\nCapInh:\t0\n":  true,
		"SigIgn:\t0000000020000000\nSigCgt:\t0\n":  false,
	} {
		got, err := parseHandles([]byte(text), unix.SIGPWR)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "SigCgt:\tzz\n", "SigCgt:\n", "SigIgn:\t0\n"} {
		if _, err := parseHandles([]byte(bad), unix.SIGPWR); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseSpark(t *testing.T) {
	for _, c := range []struct {
		name, comm, line, main string
	}{
		{"standalone", "java", "/usr/lib/jvm/bin/java -cp /a:/b -Xmx1g " + standaloneBackend + " --app-id a", standaloneBackend},
		{"other comm", "bundled-jre", "/opt/jre/java -classpath /a " + yarnBackend, yarnBackend},
		{"other argv[0]", "java", "spark-executor -Dx=y --add-opens=a/b=ALL --add-opens c/d=ALL " + kubernetesBackend, kubernetesBackend},
		{"worker", "java", "java --class-path=/a @opts " + workerMain + " --webui-port 8081", workerMain},
		{"tini", "tini", "/usr/bin/tini -s -- java -cp /a " + kubernetesBackend, ""},
		{"sh", "sh", "/bin/sh -c java -cp /a " + standaloneBackend, ""},
		{"script named java", "java", "/bin/sh /usr/bin/java -cp /a " + standaloneBackend, ""},
		{"class as a value", "java", "java -cp " + standaloneBackend + " org.example.Main", ""},
		{"class as an argument", "java", "java -cp /a org.example.Main " + standaloneBackend, ""},
		{"jar", "java", "java -jar /a.jar " + standaloneBackend, ""},
		{"module", "java", "java -p /a -m x/" + standaloneBackend, ""},
		{"driver", "java", "java -cp /a org.apache.spark.deploy.SparkSubmit", ""},
		{"nothing", "java", "java", ""},
		{"option without its value", "java", "java -cp", ""},
	} {
		got, ok := parseSpark(c.comm, strings.Fields(c.line))
		if got.main != c.main || ok != (c.main != "") {
			t.Errorf("%s: %q, %v", c.name, got.main, ok)
		}
	}
}

func TestParseExecutor(t *testing.T) {
	args := strings.Fields("--driver-url spark://CoarseGrainedScheduler@10.0.0.1:7078 --executor-id 3 --hostname 10.0.0.9 --cores 4 --app-id app-1 --worker-url spark://w --resourceProfileId 2")
	e, err := parseExecutor(jvmCommand{args: args})
	want := Executor{App: "app-1", ID: "3", Host: "10.0.0.9", DriverURL: "spark://CoarseGrainedScheduler@10.0.0.1:7078", ResourceProfile: 2}
	if err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v, %v", e, err)
	}
	for _, bad := range []string{"", "--app-id", "--app-id a --executor-id 1", "--app-id a --executor-id 1 --driver-url u --resourceProfileId x"} {
		if e, err := parseExecutor(jvmCommand{args: strings.Fields(bad)}); err == nil {
			t.Errorf("%q: %+v, want an error", bad, e)
		}
	}
}

func TestLocalDirs(t *testing.T) {
	all := map[string]string{"SPARK_EXECUTOR_DIRS": "/e1:/e2", "SPARK_LOCAL_DIRS": "/l1,/l2", "LOCAL_DIRS": "/y1,,/y2"}
	for _, c := range []struct {
		name, manager string
		env, props    map[string]string
		want          []string
	}{
		{"worker's directories first", Standalone, all, nil, []string{"/e1", "/e2"}},
		{"a YARN container's own first", YARN, all, nil, []string{"/y1", "/y2"}},
		{"YARN variable elsewhere", Kubernetes, map[string]string{"LOCAL_DIRS": "/y"}, nil, []string{"/tmp"}},
		{"SPARK_LOCAL_DIRS", Kubernetes, map[string]string{"SPARK_LOCAL_DIRS": "/l1,/l2"}, map[string]string{"spark.local.dir": "/p"}, []string{"/l1", "/l2"}},
		{"property", Standalone, nil, map[string]string{"spark.local.dir": "/p,/q", "java.io.tmpdir": "/t"}, []string{"/p", "/q"}},
		{"tmpdir", Standalone, nil, map[string]string{"java.io.tmpdir": "/t"}, []string{"/t"}},
		{"nothing", Standalone, nil, nil, []string{"/tmp"}},
	} {
		if got := localDirs(c.manager, c.env, c.props); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestParseEnvironKeepsNoSecret(t *testing.T) {
	env := parseEnviron([]byte("_SPARK_AUTH_SECRET=hush\x00SPARK_LOCAL_DIRS=/old\x00PATH=/bin\x00SPARK_LOCAL_DIRS=/a=b\x00novalue\x00=x\x00CONTAINER_ID=c"))
	want := map[string]string{"SPARK_LOCAL_DIRS": "/a=b", "CONTAINER_ID": "c"}
	if !reflect.DeepEqual(env, want) {
		t.Errorf("got %q", env)
	}
}

func TestParseCoreJar(t *testing.T) {
	for file, want := range map[string][2]string{
		"/opt/spark/jars/spark-core_2.13-4.3.0.jar":               {"4.3.0", "2.13"},
		"/a/spark-core_2.12-3.5.9.jar (deleted)":                  {"3.5.9", "2.12"},
		"spark-core_2.12-3.5.0-amzn-1.jar":                        {"3.5.0-amzn-1", "2.12"},
		"/x/spark-core_2.12-3.3.2.3.3.7190.0-91.jar":              {"3.3.2.3.3.7190.0-91", "2.12"},
		"/x/spark-core_2.13-4.1.0-SNAPSHOT.jar":                   {"4.1.0-SNAPSHOT", "2.13"},
		"7f00-7f01 r--s 0 fd:00 12   /x/spark-core_3-5.0.jar":     {},
		"/x/spark-core_2.13-4.3.0-tests.jar":                      {},
		"/x/spark-core_2.13-.jar":                                 {},
		"/x/spark-core_2.13-4.3.0.jar.md5":                        {},
		"/x/not-spark-core_2.13-4.3.0.jar":                        {},
		"/x/spark-core_2.13-" + strings.Repeat("9", 200) + ".jar": {},
	} {
		spark, scala, ok := parseCoreJar(file)
		if spark != want[0] && ok || scala != want[1] && ok || ok != (want[0] != "") {
			t.Errorf("%s: %q %q %v", file, spark, scala, ok)
		}
	}
}

func TestAddressSet(t *testing.T) {
	set := newAddressSet([]string{"10.0.0.1", "Node-A.example.", "fd00::0:1", "::ffff:10.0.0.2"})
	for host, want := range map[string]bool{
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "node-a.EXAMPLE": true, "[fd00:0::1]": true, "10.0.0.2": true, "": true,
		"10.0.0.11": false, "node-b.example": false, "fd00::2": false, "node-a": false,
	} {
		if set.has(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
	if !newAddressSet(nil).has("anything") {
		t.Error("without addresses every executor belongs to the node")
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("42 (a) b) S 7 2 3 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 100 200"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if st, err := parseStat(b); err == nil && st.state == 0 {
			t.Errorf("%q: no state", b)
		}
		if pwr, err := parseHandles(b, unix.SIGPWR); pwr && err != nil {
			t.Errorf("%q: handled in spite of %v", b, err)
		}
	})
}

func FuzzCommandLine(f *testing.F) {
	f.Add("java", []byte("java\x00-cp\x00/a\x00-Dspark.local.dir=/b\x00"+standaloneBackend+"\x00--app-id\x00a\x00--executor-id\x001\x00--driver-url\x00u"))
	f.Add("java", []byte("java\x00"+workerMain+"\x00--host\x00h\x00"))
	f.Fuzz(func(t *testing.T, comm string, b []byte) {
		c, ok := parseSpark(comm, splitNul(b))
		if !ok {
			return
		}
		if e, err := parseExecutor(c); err == nil && (e.App == "" || e.ID == "" || e.DriverURL == "") {
			t.Errorf("incomplete: %+v", e)
		}
		parseWorkerHost(c, nil)
	})
}

func FuzzEnviron(f *testing.F) {
	f.Add([]byte("_SPARK_AUTH_SECRET=hush\x00SPARK_LOCAL_DIRS=/a,/b\x00LOCAL_DIRS=/c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, value := range parseEnviron(b) {
			if !wanted(name) || !bytes.Contains(b, []byte(name+"="+value)) {
				t.Errorf("kept %q", name)
			}
		}
	})
}

func FuzzCoreJar(f *testing.F) {
	f.Add("/x/spark-core_2.12-3.5.0-amzn-1.jar (deleted)")
	f.Fuzz(func(t *testing.T, file string) {
		if spark, scala, ok := parseCoreJar(file); ok && (spark == "" || scala == "" || len(spark) > 100) {
			t.Errorf("%q: %q %q", file, spark, scala)
		}
	})
}
