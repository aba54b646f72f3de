package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/polargo/polar/internal/atomicfile"
)

// Shakespeare is the name of the built-in text: TinyShakespeare (Karpathy 2015), 1,115,394 characters, 65 distinct.
const Shakespeare = "shakespeare"

const (
	shakespeareURL   = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
	shakespeareHash  = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
	shakespeareBytes = 1115394
	connectTimeout   = 10 * time.Second
	downloadTimeout  = 60 * time.Second
)

// opticksFiles are the places of Newton's Opticks in a Go source tree; the first one since Go 1.19.
var opticksFiles = []string{"src/testdata/Isaac.Newton-Opticks.txt", "src/compress/testdata/Isaac.Newton-Opticks.txt", "testdata/Isaac.Newton-Opticks.txt"}

// Resolve turns the name of a built-in text or hub data set into files on disk; any other path comes back unchanged. "shakespeare"
// is taken from the cache or downloaded and checked by its SHA-256; where that fails, or offline forbids it, note says why and the
// path is that of Newton's Opticks in the Go source tree.
func Resolve(ctx context.Context, path string, offline bool) (file, note string, err error) {
	return Options{Offline: offline}.resolve(ctx, path)
}

func (o Options) resolve(ctx context.Context, path string) (file, note string, err error) {
	if strings.HasPrefix(path, hubPrefix) {
		file, err = o.hubDataset(ctx, path)
		return file, "", err
	}
	if path != Shakespeare {
		return path, "", nil
	}
	dir, err := o.cacheDir()
	if err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, "tinyshakespeare.txt")
	if content, err := os.ReadFile(file); err == nil && sum(content) == shakespeareHash {
		return file, "", nil
	}
	why := errors.New("--offline forbids its download")
	if !o.Offline {
		why = o.download(ctx, file)
	}
	if why == nil {
		return file, "", nil
	}
	if err := ctx.Err(); err != nil {
		return "", "", err
	}
	if file, err = o.opticks(ctx); err != nil {
		return "", "", fmt.Errorf("data: TinyShakespeare is not in the cache and cannot be had (%w), and %w", why, err)
	}
	return file, fmt.Sprintf("TinyShakespeare is not in the cache and cannot be had (%v): using Newton's Opticks from the Go source tree, %s", why, file), nil
}

func sum(content []byte) string {
	h := sha256.Sum256(content)
	return hex.EncodeToString(h[:])
}

// download fetches TinyShakespeare to file.
func (o Options) download(ctx context.Context, file string) error {
	url, client, timeout := o.Source.ShakespeareURL, o.Source.Client, o.Source.Timeout
	if url == "" {
		url = shakespeareURL
	}
	if client == nil {
		transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: connectTimeout,
			DialContext: (&net.Dialer{Timeout: connectTimeout}).DialContext}
		defer transport.CloseIdleConnections()
		client = &http.Client{Transport: transport}
	}
	if timeout == 0 {
		timeout = downloadTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	reply, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no network: %w", err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, reply.Status)
	}
	content, err := io.ReadAll(io.LimitReader(reply.Body, shakespeareBytes+1))
	if err != nil {
		return fmt.Errorf("the download broke off: %w", err)
	}
	if got := sum(content); got != shakespeareHash {
		return fmt.Errorf("%s gave %d bytes whose sha256 begins %s, want %d bytes beginning %s", url, len(content), got[:12], shakespeareBytes, shakespeareHash[:12])
	}
	return atomicfile.WriteBytes(file, content)
}

// opticks finds Newton's Opticks in the Go source tree.
func (o Options) opticks(ctx context.Context) (string, error) {
	roots := []string{o.Source.GoRoot}
	if o.Source.GoRoot == "" {
		roots = goRoots(ctx)
	}
	for _, root := range roots {
		for _, name := range opticksFiles {
			path := filepath.Join(root, filepath.FromSlash(name))
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("no Go source tree holds %s: connect to the network, set GOROOT, or give --data a text file of your own", filepath.Base(opticksFiles[0]))
}

// goRoots are the folders where a Go installation may be. The go command is asked twice: a newer toolchain that it fetched for the
// module comes without test data, the installed one has them.
func goRoots(ctx context.Context) []string {
	roots := []string{os.Getenv("GOROOT")}
	for _, toolchain := range []string{"", "GOTOOLCHAIN=local"} {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		command := exec.CommandContext(ctx, "go", "env", "GOROOT")
		command.Dir = os.TempDir()
		if toolchain != "" {
			command.Env = append(os.Environ(), toolchain)
		}
		out, err := command.Output()
		cancel()
		if err == nil {
			roots = append(roots, string(bytes.TrimSpace(out)))
		}
	}
	roots = append(roots, "/usr/local/go", "/usr/lib/go", "/usr/lib/golang", "/usr/share/go", "/opt/homebrew/opt/go/libexec", "/usr/local/opt/go/libexec",
		"/snap/go/current", `C:\Program Files\Go`)
	if home, err := os.UserHomeDir(); err == nil {
		found, _ := filepath.Glob(filepath.Join(home, "sdk", "go*"))
		roots = append(roots, found...)
	}
	kept := roots[:0]
	for _, root := range roots {
		if root != "" {
			kept = append(kept, root)
		}
	}
	return kept
}
