package java

import (
	"fmt"
	"strings"
	"testing"
)

// The first lines of what real executors (3.5.9, 4.1.4, 4.3.0, Java 17) answered to ProbeMetadata. The last is
// how Java 8, on which 3.5 runs too, words it.
const (
	refusedTuple = "java.io.InvalidClassException: scala.Tuple2; local class incompatible: stream classdesc serialVersionUID = 3356420310891166197, local class serialVersionUID = 142951686315914362\n\tat java.base/java.io.ObjectStreamClass.initNonProxy(ObjectStreamClass.java:597)\n\t"
	wantsTuple   = "java.lang.ClassCastException: class [Ljava.lang.Object; cannot be cast to class scala.Tuple2 ([Ljava.lang.Object; is in module java.base of loader 'bootstrap'; scala.Tuple2 is in unnamed module of loader 'app')\n\tat org.apache.spark.network.netty.NettyBlockRpcServer"
	wantsNew     = "java.lang.ClassCastException: class [Ljava.lang.Object; cannot be cast to class org.apache.spark.network.netty.BlockReplicationMetadata ([Ljava.lang.Object; is in module java.base of loader 'bootstrap'; org.apache.spark.network.netty.BlockReplicationMetadata is in unnamed module of loader 'app')\n\tat "
	noNew        = "java.lang.ClassNotFoundException: org.apache.spark.network.netty.BlockReplicationMetadata\n\tat java.base/jdk.internal.loader.BuiltinClassLoader.loadClass"
	wantsTuple8  = "java.lang.ClassCastException: [Ljava.lang.Object; cannot be cast to scala.Tuple2\n\tat org.apache.spark"
)

func version(t *testing.T, spark, scala string) Dialect {
	t.Helper()
	d, _, ok := ForVersion(spark, scala)
	if !ok {
		t.Fatalf("no dialect for %s", spark)
	}
	return d
}

func TestLearn(t *testing.T) {
	old, mid, latest := version(t, "3.5.9", "2.12"), version(t, "4.1.4", ""), version(t, "4.3.0", "")
	corrected := old
	corrected.UIDs.Tuple2 = mid.UIDs.Tuple2
	toTuple, toNew := latest, mid
	toTuple.UploadClass, toNew.UploadClass = classTuple2, classReplication
	otherClass := strings.ReplaceAll(wantsNew, "BlockReplicationMetadata", "Replica")
	for name, c := range map[string]struct {
		from    Dialect
		failure string
		next    Dialect
		outcome Outcome
	}{
		"number":               {old, refusedTuple, corrected, Learned},
		"number not sent":      {mid, refusedTuple, mid, Refused},
		"confirmed":            {mid, wantsTuple, mid, Confirmed},
		"confirmed, JDK 8":     {old, wantsTuple8, old, Confirmed},
		"confirmed, new":       {latest, wantsNew, latest, Confirmed},
		"to the new class":     {mid, wantsNew, toNew, Switched},
		"to the old class":     {latest, wantsTuple, toTuple, Switched},
		"new class is unknown": {latest, noNew, toTuple, Switched},
		"a class nobody knows": {mid, otherClass, mid, Refused},
		"another cast":         {mid, "java.lang.ClassCastException: class a.B cannot be cast to class scala.Tuple2", mid, Refused},
		"something else":       {mid, "java.lang.NullPointerException\n\tat", mid, Refused},
		"nothing":              {mid, "", mid, Refused},
		"no number at all": {mid, fmt.Sprintf("InvalidClassException: scala.Tuple2; local class incompatible: stream classdesc serialVersionUID = %d, local class serialVersionUID = 9999999999999999999", mid.UIDs.Tuple2),
			mid, Refused},
		"class we do not write": {mid, "InvalidClassException: a.B; local class incompatible: stream classdesc serialVersionUID = 1, local class serialVersionUID = 2", mid, Refused},
	} {
		next, outcome := Learn(c.from, c.failure)
		wantName := c.from.Name
		if c.outcome == Learned || c.outcome == Switched {
			wantName += "+learned"
		}
		c.next.Name = wantName
		if next != c.next || outcome != c.outcome {
			t.Errorf("%s: %v, %+v", name, outcome, next)
		}
	}
}

// TestLearnEnds plays a peer that has its own number for every class.
func TestLearnEnds(t *testing.T) {
	d := version(t, "4.3.0", "")
	peer := d
	for _, class := range []string{classReplication, classModuleProxy, classNone, classOption, classStorageLevel} {
		*peer.UIDs.of(class) += 7
	}
	for range 5 {
		next, outcome := Learn(d, refuse(d, peer))
		if outcome != Learned {
			t.Fatalf("%v", outcome)
		}
		d = next
	}
	if next, outcome := Learn(d, refuse(d, peer)); outcome != Confirmed || next.UIDs != peer.UIDs {
		t.Errorf("%v, %+v", outcome, next)
	}
	if d.Name != "spark-4.3-scala-2.13+learned" {
		t.Error(d.Name)
	}
}

// refuse is what a JVM with the peer's numbers says to d's probe.
func refuse(d, peer Dialect) string {
	for _, class := range []string{classReplication, classModuleProxy, classNone, classOption, classStorageLevel} {
		if sent, local := *d.UIDs.of(class), *peer.UIDs.of(class); sent != local {
			return fmt.Sprintf("java.io.InvalidClassException: %s; local class incompatible: stream classdesc serialVersionUID = %d, local class serialVersionUID = %d", class, sent, local)
		}
	}
	return wantsNew
}

func FuzzLearn(f *testing.F) {
	for _, s := range []string{refusedTuple, wantsTuple, wantsNew, noNew, wantsTuple8, ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, failure string) {
		d, _, _ := ForVersion("4.3.0", "")
		next, outcome := Learn(d, failure)
		if changed := next != d; changed != (outcome == Learned || outcome == Switched) {
			t.Errorf("%v, changed %v", outcome, changed)
		}
	})
}
