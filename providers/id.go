package providers

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxWord is the most that a part of a notice's id may have to be taken as it is. The longest ids of
// events are UUIDs and times.
const maxWord = 64

// EventID makes a notice's id of the source's name and of what the origin calls the event. What came
// from outside becomes the name of a folder and a line in logs: a part that is no short plain word is
// replaced by a digest of it, so that two events still have two ids.
func EventID(source string, parts ...string) string {
	id := source
	for _, p := range parts {
		if !plain(p) {
			sum := sha256.Sum256([]byte(p))
			p = "x" + hex.EncodeToString(sum[:8])
		}
		id += "-" + p
	}
	return id
}

// plain says whether s is a word of letters, digits and the signs of times and UUIDs. It doesn't begin
// with a dot.
func plain(s string) bool {
	const also = "-_.:"
	if s == "" || len(s) > maxWord || s[0] == '.' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(also, rune(c)) {
			return false
		}
	}
	return true
}
