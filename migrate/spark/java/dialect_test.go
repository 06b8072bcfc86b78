package java

import "testing"

func TestForVersion(t *testing.T) {
	for _, c := range []struct {
		spark, scala string
		name         string
		exact, ok    bool
	}{
		{"3.4.0", "2.12", "spark-3.4-scala-2.12", true, true},
		{"3.4.4", "2.13.8", "spark-3.4-scala-2.13", true, true},
		{"3.5.9", "2.12.18", "spark-3.5-scala-2.12", true, true},
		{"3.5.9", "2.13", "spark-3.5-scala-2.13", true, true},
		{"3.5.9", "", "spark-3.5-scala-2.12", false, true},
		{"3.5.9", "3", "spark-3.5-scala-2.12", false, true},
		{"4.0.5", "", "spark-4.0-scala-2.13", true, true},
		{"4.1.4", "2.13", "spark-4.1-scala-2.13", true, true},
		{"4.2.1", "2.13.17", "spark-4.2-scala-2.13", true, true},
		{"4.3.0", "", "spark-4.3-scala-2.13", true, true},
		{"4.3.0", "2.12", "spark-4.3-scala-2.13", false, true},
		{"4.3.0", "3", "spark-4.3-scala-2.13", false, true},
		{"4.4.0", "2.13", "spark-4.3-scala-2.13", false, true},
		{"5.0.0", "", "spark-4.3-scala-2.13", false, true},
		{"3.6.0", "2.12", "spark-3.5-scala-2.12", false, true},
		{"3.5.1-amzn-0", "2.12", "spark-3.5-scala-2.12", false, true},
		{"4.3.0-SNAPSHOT", "", "spark-4.3-scala-2.13", false, true},
		{"4.3", "", "spark-4.3-scala-2.13", false, true},
		{"3.5.0.1", "2.12", "spark-3.5-scala-2.12", false, true},
		{"", "", "spark-4.3-scala-2.13", false, true},
		{"", "2.12", "spark-3.5-scala-2.12", false, true},
		{"next", "", "spark-4.3-scala-2.13", false, true},
		{"3.3.4", "2.12", "", false, false},
		{"2.4.8", "2.12", "", false, false},
	} {
		d, exact, ok := ForVersion(c.spark, c.scala)
		if d.Name != c.name || exact != c.exact || ok != c.ok {
			t.Errorf("ForVersion(%q, %q) = %q, %v, %v", c.spark, c.scala, d.Name, exact, ok)
		}
	}
}

func TestEveryReleaseHasEveryNumber(t *testing.T) {
	for _, r := range releases() {
		d := r.dialect()
		for _, class := range []string{classTuple2, classOption, classNone, classModuleProxy, classStorageLevel,
			classReplication, classBlockManager, classGetPeers, classUpdateBlock, classDecommission, classRetrieveConf} {
			if *d.UIDs.of(class) == 0 {
				t.Errorf("%s: no number for %s", d.Name, class)
			}
		}
	}
}

func TestByName(t *testing.T) {
	for _, name := range Names() {
		if d, ok := ByName(name); !ok || d.Name != name {
			t.Errorf("%s: %q, %v", name, d.Name, ok)
		}
	}
	if _, ok := ByName("spark-3.3-scala-2.12"); ok {
		t.Error("found an unsupported release")
	}
}
