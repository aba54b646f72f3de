//go:build xla

package backend

import (
	"os"

	_ "github.com/gomlx/go-xla/compute/xla" // registers "xla"
)

// XLA's package fetches its plugin from the network when it is missing; Polar's rule is that only commands that name a
// hub model or data set may use the network.
func init() {
	if _, set := os.LookupEnv("GOMLX_NO_AUTO_INSTALL"); !set {
		_ = os.Setenv("GOMLX_NO_AUTO_INSTALL", "1")
	}
}
