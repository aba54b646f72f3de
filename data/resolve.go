package data

import "context"

// Resolve turns a name of built-in text into a file; other names come back unchanged. note says what was used instead when
// the text could not be downloaded.
func Resolve(ctx context.Context, options Options) (path, note string, err error) { return options.Path, "", nil }
