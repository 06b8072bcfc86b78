package config

// Modes of the mirror; see Mirror.Mode.
const (
	MirrorOff         = "off"
	MirrorOnRebalance = "on-rebalance"
	MirrorAlways      = "always"
)

// Mirror are the copies that are made in object storage before any notice.
type Mirror struct {
	Mode      string `yaml:"mode" doc:"When committed map outputs are copied to object storage before any notice: never, while a notice says that the node may soon go (rebalance, cordon), or always." oneof:"off|on-rebalance|always"`
	Bandwidth int    `yaml:"bandwidth" doc:"MiB per second that all copies ahead of this node may take together." min:"1" max:"100000"`
}
