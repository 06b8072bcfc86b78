package java

// Names lists the dialects that can be named in a configuration, oldest first.
func Names() []string {
	var names []string
	for _, r := range releases() {
		names = append(names, r.dialect().Name)
	}
	return names
}

// ByName finds a dialect by its name, as "spark-4.3-scala-2.13".
func ByName(name string) (Dialect, bool) {
	for _, r := range releases() {
		if d := r.dialect(); d.Name == name {
			return d, true
		}
	}
	return Dialect{}, false
}
