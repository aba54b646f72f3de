package recipe

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/polargo/polar/backend"
)

// versions lists what decides an experiment's numbers besides its settings.
func versions(backendName string) map[string]string {
	out := map[string]string{
		"go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
		"backend": backend.Name(backendName), "instructions": backend.Instructions(backendName), "polar": "unknown",
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	out["polar"] = info.Main.Version
	for _, module := range info.Deps {
		if strings.HasPrefix(module.Path, "github.com/gomlx/") {
			out[module.Path] = module.Version
		}
	}
	for _, setting := range info.Settings {
		if slices.Contains([]string{"vcs.revision", "vcs.modified"}, setting.Key) {
			out[setting.Key] = setting.Value
		}
	}
	return out
}

// otherVersions names what differs between two lists of versions.
func otherVersions(a, b map[string]string) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(b)) {
		if a[key] != b[key] {
			out = append(out, key)
		}
	}
	return out
}

// machine describes the processor in words, as far as the system tells.
func machine() string {
	name := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores, %s", runtime.NumCPU(), name)
}
