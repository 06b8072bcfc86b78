package config

// Modes of the mirror; see Mirror.Mode.
const (
	MirrorOff         = "off"
	MirrorOnRebalance = "on-rebalance"
	MirrorAlways      = "always"
)

// Mirror are the copies that are made in object storage before any notice. A file may also give the mode alone:
// "mirror: always".
type Mirror struct {
	Mode      string `yaml:"mode" doc:"When committed map outputs are copied to object storage before any notice: never, while a notice says that the node may soon go (rebalance, cordon), or always." oneof:"off|on-rebalance|always"`
	Bandwidth int    `yaml:"bandwidth" doc:"MiB per second that all copies ahead of this node may take together." min:"1" max:"100000"`
}

// UnmarshalYAML takes a single word for the mode; see Providers.UnmarshalYAML for its form.
func (m *Mirror) UnmarshalYAML(decode func(any) error) error {
	type keys Mirror
	return wordOr(decode, &m.Mode, (*keys)(m))
}

// wordOr decodes a value that may be one word in place of keys. A number or nothing is no word.
func wordOr(decode func(any) error, word *string, keys any) error {
	if decode(word) == nil {
		return nil
	}
	return decode(keys)
}
