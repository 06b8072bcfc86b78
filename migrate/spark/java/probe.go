package java

import (
	"regexp"
	"strconv"
	"strings"
)

// Outcome is what one refusal taught.
type Outcome int

const (
	// Refused: the answer teaches nothing that could help; blocks can't be sent to this Spark.
	Refused Outcome = iota
	// Learned: a serialVersionUID was corrected; probe again with the next dialect.
	Learned
	// Switched: this Spark expects another class of metadata; probe again with the next dialect.
	Switched
	// Confirmed: this Spark read the whole object and expects just that class: the dialect is right.
	Confirmed
)

// String is the word for logs.
func (o Outcome) String() string {
	switch o {
	case Learned:
		return "learned"
	case Switched:
		return "switched"
	case Confirmed:
		return "confirmed"
	default:
		return "refused"
	}
}

// ProbeMetadata is the metadata of an UploadBlock that can't be carried out: the dialect's metadata
// object within an Object[]. Spark reads the array with all that is in it, then fails to take it for
// the metadata, and says in its exception which class it wanted; nothing is stored. Hand that
// exception to Learn.
func (d Dialect) ProbeMetadata() []byte {
	w := newWriter()
	w.array(1)
	d.writeUpload(w)
	return w.buf
}

// The texts of java.io.ObjectStreamClass.initNonProxy and of HotSpot's ClassCastException (JDK 8 says
// "A cannot be cast to B", later ones put "class" before both).
var (
	wrongUID   = regexp.MustCompile(`InvalidClassException: ([\w.$]+); local class incompatible: stream classdesc serialVersionUID = (-?\d{1,19}), local class serialVersionUID = (-?\d{1,19})`)
	wrongClass = regexp.MustCompile(`ClassCastException: (?:class )?(\S+) cannot be cast to (?:class )?([\w.$]+)`)
	noClass    = regexp.MustCompile(`(?:ClassNotFoundException|NoClassDefFoundError): ([\w.$/]+)`)
)

const objectArray = "[Ljava.lang.Object;"

// Learn reads the text of an exception with which Spark refused an object of dialect d: of
// ProbeMetadata, or of a message to the driver. The next dialect is d unless the outcome is Learned
// or Switched. A caller must bound its rounds: each teaches one number at most.
func Learn(d Dialect, failure string) (next Dialect, outcome Outcome) {
	if m := wrongUID.FindStringSubmatch(failure); m != nil {
		return learnUID(d, m[1], m[2], m[3])
	}
	if m := noClass.FindStringSubmatch(failure); m != nil && strings.ReplaceAll(m[1], "/", ".") == classReplication {
		return switchTo(d, classTuple2)
	}
	m := wrongClass.FindStringSubmatch(failure)
	if m == nil || m[1] != objectArray {
		return d, Refused
	}
	if m[2] == d.UploadClass {
		return d, Confirmed
	}
	return switchTo(d, m[2])
}

// learnUID takes the receiver's number, if it is about the number that was sent.
func learnUID(d Dialect, class, sent, want string) (Dialect, Outcome) {
	uid := d.UIDs.of(class)
	s, errSent := strconv.ParseInt(sent, 10, 64)
	n, errWant := strconv.ParseInt(want, 10, 64)
	if uid == nil || errSent != nil || errWant != nil || s != *uid || n == s {
		return d, Refused
	}
	*uid = n
	return learned(d), Learned
}

func switchTo(d Dialect, class string) (Dialect, Outcome) {
	if class == d.UploadClass || class != classTuple2 && class != classReplication {
		return d, Refused
	}
	d.UploadClass = class
	return learned(d), Switched
}

func learned(d Dialect) Dialect {
	const mark = "+learned"
	d.Name = strings.TrimSuffix(d.Name, mark) + mark
	return d
}
