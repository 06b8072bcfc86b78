package providers

import (
	"os"
	"strings"
)

// BootID names this start of the machine (proc(5), random/boot_id): the part of a notice's id that tells two events apart
// where the origin gives neither a time nor an id. It is the same in every container and after a restart of the agent, and
// another one after a reboot. It is "boot" where the kernel doesn't say.
func BootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id, _, _ := strings.Cut(strings.TrimSpace(string(raw)), "-")
	if err != nil || id == "" {
		return "boot"
	}
	return id
}
