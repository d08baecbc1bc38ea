package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/noderpc"
	"github.com/holdfastdb/holdfast/server/peerpb"
)

// nodelocal://N/… from another node than N: the operations of a Store, one call
// each. A file is whole or absent because its last part says that it is the last:
// what ends without it was cut, on either side.

// filePartBytes is the size of the parts that files travel in.
const filePartBytes = 128 << 10

// fileErrors are the errors that callers of a Store count on, by their names on the
// wire. The first that fits is sent.
var fileErrors = []struct {
	kind peerpb.FileError_Kind
	is   error
}{
	{peerpb.FileError_NOT_EXIST, extstore.ErrNotExist},
	{peerpb.FileError_EXISTS, extstore.ErrExists},
	{peerpb.FileError_DISK_FULL, syscall.ENOSPC},
	{peerpb.FileError_DISK_FULL, syscall.EDQUOT},
	{peerpb.FileError_PERMISSION, fs.ErrPermission},
}

func fileErrorToWire(err error) *peerpb.FileError {
	if err == nil {
		return nil
	}
	out := &peerpb.FileError{Error: kvpb.ErrorToWire(err)}
	for _, e := range fileErrors {
		if errors.Is(err, e.is) {
			out.Kind = e.kind
			return out
		}
	}
	if !extstore.IsRetryable(err) && !errors.Is(err, context.Canceled) {
		out.Kind = peerpb.FileError_PERMANENT
	}
	return out
}

func fileErrorFromWire(m *peerpb.FileError) error {
	if m == nil {
		return nil
	}
	err := kvpb.ErrorFromWire(m.GetError())
	for _, e := range fileErrors {
		if e.kind == m.GetKind() {
			return &remoteFileError{err, e.is}
		}
	}
	if m.GetKind() == peerpb.FileError_PERMANENT {
		return extstore.Permanent(err)
	}
	return err
}

// remoteFileError is an error of another node with what it counts as here.
type remoteFileError struct{ err, is error }

func (e *remoteFileError) Error() string   { return e.err.Error() }
func (e *remoteFileError) Unwrap() []error { return []error{e.err, e.is} }

// local opens the store that a request is about.
func (s *peerServer) local(ctx context.Context, q *peerpb.FileRequest) (extstore.Store, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	dir := s.c.n.cfg.ExternalIODir
	if dir == externalIODisabled {
		dir = ""
	}
	st, err := extstore.OpenLocal(dir, q.GetBase(), fmt.Sprintf("nodelocal://%d%s", s.c.n.ident.NodeID, q.GetBase()))
	if err != nil {
		return nil, &answeredError{extstore.Permanent(err)}
	}
	return st, nil
}

// answeredError is one of the file system: it is part of the answer, and not the
// failure of the call.
type answeredError struct{ error }

func (e *answeredError) Unwrap() error { return e.error }

// split tells the two apart.
func split(err error) (answer *peerpb.FileError, failure error) {
	var a *answeredError
	if err == nil || errors.As(err, &a) {
		return fileErrorToWire(err), nil
	}
	return nil, err
}

// PutFile implements the service.
func (s *peerServer) PutFile(stream grpc.ClientStreamingServer[peerpb.PutFilePart, peerpb.FileAnswer]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	st, err := s.local(stream.Context(), first.GetFile())
	if err == nil {
		defer st.Close()
		if err = st.Put(stream.Context(), first.GetFile().GetName(), &partReader[*peerpb.PutFilePart]{next: stream.Recv, part: first}); err != nil {
			err = &answeredError{err}
		}
	}
	answer, err := split(err)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&peerpb.FileAnswer{Error: answer})
}

// filePart is a message with a part of a file.
type filePart interface {
	GetData() []byte
	GetLast() bool
}

// partReader reads a file from the parts that come.
type partReader[P filePart] struct {
	next func() (P, error)
	part P
	rest []byte
	read bool // part is in rest
}

func (r *partReader[P]) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.read {
			if r.part.GetLast() {
				return 0, io.EOF
			}
			var err error
			if r.part, err = r.next(); errors.Is(err, io.EOF) {
				return 0, io.ErrUnexpectedEOF
			} else if err != nil {
				return 0, err
			}
		}
		r.rest, r.read = r.part.GetData(), true
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// fillPart reads as much as fits into buf. last says that the body ended there; one
// that fails, be it with io.ErrUnexpectedEOF, has not ended.
func fillPart(body io.Reader, buf []byte) (n int, last bool, err error) {
	for n < len(buf) {
		k, err := body.Read(buf[n:])
		n += k
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// OpenFile implements the service.
func (s *peerServer) OpenFile(q *peerpb.OpenFileRequest, stream grpc.ServerStreamingServer[peerpb.FilePart]) error {
	st, err := s.local(stream.Context(), q.GetFile())
	var body io.ReadCloser
	if err == nil {
		defer st.Close()
		if body, err = st.Open(stream.Context(), q.GetFile().GetName(), q.GetOffset(), q.GetLength()); err != nil {
			err = &answeredError{err}
		}
	}
	answer, err := split(err)
	if err != nil {
		return err
	}
	if answer != nil {
		return stream.Send(&peerpb.FilePart{Error: answer})
	}
	defer body.Close()
	if err := stream.Send(&peerpb.FilePart{}); err != nil {
		return err
	}
	buf := make([]byte, filePartBytes)
	for {
		n, last, err := fillPart(body, buf)
		if err != nil {
			return stream.Send(&peerpb.FilePart{Error: fileErrorToWire(err)})
		}
		if err := stream.Send(&peerpb.FilePart{Data: buf[:n], Last: last}); err != nil || last {
			return err
		}
	}
}

// namesPerPart is how many names of files one message has.
const namesPerPart = 1000

// ListFiles implements the service.
func (s *peerServer) ListFiles(q *peerpb.ListFilesRequest, stream grpc.ServerStreamingServer[peerpb.FileNames]) error {
	st, err := s.local(stream.Context(), q.GetFile())
	part := &peerpb.FileNames{}
	var sendErr error
	if err == nil {
		defer st.Close()
		err = st.List(stream.Context(), q.GetFile().GetName(), q.GetDelimiter(), func(name string) error {
			part.Names = append(part.Names, name)
			if len(part.Names) < namesPerPart {
				return nil
			}
			sendErr = stream.Send(part)
			part = &peerpb.FileNames{}
			return sendErr
		})
		if sendErr != nil {
			return sendErr
		}
		if err != nil {
			err = &answeredError{err}
		}
	}
	if part.Error, err = split(err); err != nil {
		return err
	}
	part.Last = part.Error == nil
	return stream.Send(part)
}

// DeleteFile implements the service.
func (s *peerServer) DeleteFile(ctx context.Context, q *peerpb.FileRequest) (*peerpb.FileAnswer, error) {
	return s.onFile(ctx, q, func(st extstore.Store) (int64, error) { return 0, st.Delete(ctx, q.GetName()) })
}

// FileSize implements the service.
func (s *peerServer) FileSize(ctx context.Context, q *peerpb.FileRequest) (*peerpb.FileAnswer, error) {
	return s.onFile(ctx, q, func(st extstore.Store) (int64, error) { return st.Size(ctx, q.GetName()) })
}

func (s *peerServer) onFile(ctx context.Context, q *peerpb.FileRequest, do func(extstore.Store) (int64, error)) (*peerpb.FileAnswer, error) {
	st, err := s.local(ctx, q)
	resp := &peerpb.FileAnswer{}
	if err == nil {
		defer st.Close()
		if resp.Size, err = do(st); err != nil {
			err = &answeredError{err}
		}
	}
	resp.Error, err = split(err)
	return resp, err
}

// remoteFiles is a directory of another node's files as a bare Store.
type remoteFiles struct {
	client peerpb.PeerClient
	node   int32
	base   string
	uri    string
	// gone says that the node has not been alive for so long that nobody should
	// wait for it.
	gone func() bool
}

var _ extstore.Store = (*remoteFiles)(nil)

// remoteFiles opens a directory below the external I/O directory of another node.
func (p peers) remoteFiles(node int32, base, uri string) extstore.Store {
	id := kvpb.NodeID(node)
	return &remoteFiles{
		client: p.client(id), node: node, base: base, uri: uri, gone: func() bool { return !p.c.live.IsLive(id) },
	}
}

func (r *remoteFiles) String() string { return r.uri }

// Close implements extstore.Store. The connection is the node's.
func (r *remoteFiles) Close() error { return nil }

func (r *remoteFiles) file(name string) *peerpb.FileRequest {
	return &peerpb.FileRequest{Base: r.base, Name: name}
}

// failed says that the node did not answer. One that was alive a moment ago may be
// back soon, so the operation can be tried again; it may have been carried out.
func (r *remoteFiles) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var unsent *noderpc.SendError
	if !errors.As(err, &unsent) && status.Code(err) == codes.Unknown {
		return err // The answer was cut, or cannot be read.
	}
	out := error(pgerr.Newf("08006", "node %d, which holds %s, does not answer: %s", r.node, r.uri, reason(err)).
		WithHint("Start node %d again, or use storage that does not depend on one node.", r.node))
	if r.gone() {
		return extstore.Permanent(out)
	}
	return out
}

// Put implements extstore.Store.
func (r *remoteFiles) Put(ctx context.Context, name string, body io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // A stream that ends so has no last part.
	stream, err := r.client.PutFile(ctx)
	if err != nil {
		return r.failed(ctx, err)
	}
	buf := make([]byte, filePartBytes)
	for file, last := r.file(name), false; !last; file = nil {
		var n int
		if n, last, err = fillPart(body, buf); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // Perhaps the body ended because of it.
		}
		if err := stream.Send(&peerpb.PutFilePart{File: file, Data: buf[:n], Last: last}); err != nil {
			break // CloseAndRecv says why.
		}
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return r.failed(ctx, err)
	}
	return fileErrorFromWire(answer.GetError())
}

// Open implements extstore.Store.
func (r *remoteFiles) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	streamCtx, cancel := context.WithCancel(ctx)
	stream, err := r.client.OpenFile(streamCtx, &peerpb.OpenFileRequest{File: r.file(name), Offset: offset, Length: length})
	var first *peerpb.FilePart
	if err == nil {
		first, err = stream.Recv()
	}
	if err != nil {
		cancel()
		return nil, r.failed(ctx, err)
	}
	if err := fileErrorFromWire(first.GetError()); err != nil {
		cancel()
		return nil, err
	}
	return &remoteReader{cancel: cancel, partReader: partReader[*peerpb.FilePart]{part: first, next: func() (*peerpb.FilePart, error) {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, err
		case err != nil:
			return nil, r.failed(ctx, err)
		}
		return part, fileErrorFromWire(part.GetError())
	}}}, nil
}

// remoteReader reads what another node sends of a file.
type remoteReader struct {
	partReader[*peerpb.FilePart]
	cancel context.CancelFunc
}

// Close ends the call, wherever it is.
func (r *remoteReader) Close() error {
	r.cancel()
	return nil
}

// List implements extstore.Store.
func (r *remoteFiles) List(ctx context.Context, prefix, delimiter string, fn func(string) error) error {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.client.ListFiles(streamCtx, &peerpb.ListFilesRequest{File: r.file(prefix), Delimiter: delimiter})
	if err != nil {
		return r.failed(ctx, err)
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return r.failed(ctx, err)
		}
		for _, name := range part.GetNames() {
			if err := fn(name); errors.Is(err, extstore.ErrStopList) {
				return nil
			} else if err != nil {
				return err
			}
		}
		if err := fileErrorFromWire(part.GetError()); err != nil || part.GetLast() {
			return err
		}
	}
}

// Delete implements extstore.Store.
func (r *remoteFiles) Delete(ctx context.Context, name string) error {
	answer, err := r.client.DeleteFile(ctx, r.file(name))
	if err != nil {
		return r.failed(ctx, err)
	}
	return fileErrorFromWire(answer.GetError())
}

// Size implements extstore.Store.
func (r *remoteFiles) Size(ctx context.Context, name string) (int64, error) {
	answer, err := r.client.FileSize(ctx, r.file(name))
	if err != nil {
		return 0, r.failed(ctx, err)
	}
	return answer.GetSize(), fileErrorFromWire(answer.GetError())
}
