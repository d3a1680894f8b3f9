/* `v8-calls.node`: what V8's own interface has and Node does not pass on. It takes the machine code that V8 made of a WebAssembly module out of it and makes a module with such code, which V8 refuses when it is of another version, other flags or another processor; and it has V8 refuse to make code of strings. */
#include <node.h>
#include <v8-wasm.h>

#include <cstring>
#include <memory>
#include <utility>
#include <variant>

namespace {

using v8::Local;
using v8::Value;
using v8::WasmModuleObject;

using Outcome = std::variant<Local<WasmModuleObject>, Local<Value>>;

/* What V8's callbacks tell. V8 keeps them when it has to compile after all, then for longer than the call. */
struct Told {
  bool listening = true;
  bool taken = false;
  Outcome outcome;
};

v8::MemorySpan<const uint8_t> BytesOf(Local<Value> value) {
  Local<v8::Uint8Array> view = value.As<v8::Uint8Array>();
  const auto* data = static_cast<const uint8_t*>(view->Buffer()->Data());
  return {data + view->ByteOffset(), view->ByteLength()};
}

Local<v8::Uint8Array> CopyOf(v8::Isolate* isolate, const uint8_t* data, size_t size) {
  Local<v8::ArrayBuffer> buffer = v8::ArrayBuffer::New(isolate, size);
  if (size > 0) std::memcpy(buffer->Data(), data, size);
  return v8::Uint8Array::New(buffer, 0, size);
}

/* (module: WebAssembly.Module) => Uint8Array: the code of the functions that V8 has optimized until now. */
void Serialize(const v8::FunctionCallbackInfo<Value>& call) {
  if (!call[0]->IsWasmModuleObject()) return;
  v8::OwnedBuffer code = WasmModuleObject::Cast(*call[0])->GetCompiledModule().Serialize();
  call.GetReturnValue().Set(CopyOf(call.GetIsolate(), code.buffer.get(), code.size));
}

/* (module: WebAssembly.Module) => Uint8Array: the bytes that it was made of. */
void BytesOfModule(const v8::FunctionCallbackInfo<Value>& call) {
  if (!call[0]->IsWasmModuleObject()) return;
  v8::CompiledWasmModule module = WasmModuleObject::Cast(*call[0])->GetCompiledModule();
  const auto bytes = module.GetWireBytesRef();
  call.GetReturnValue().Set(CopyOf(call.GetIsolate(), bytes.data(), bytes.size()));
}

/* (module: Uint8Array, code: Uint8Array) => WebAssembly.Module | undefined: undefined when V8 cannot use the code. */
void Deserialize(const v8::FunctionCallbackInfo<Value>& call) {
  if (!call[0]->IsUint8Array() || !call[1]->IsUint8Array()) return;
  const auto module = BytesOf(call[0]);
  const auto code = BytesOf(call[1]);
  auto told = std::make_shared<Told>();
  v8::WasmModuleCompilation compilation;
  compilation.SetHasCompiledModuleBytes();
  compilation.OnBytesReceived(module.data(), module.size());
  compilation.Finish(
      call.GetIsolate(),
      [told, code](v8::WasmStreaming::ModuleCachingInterface& cache) {
        told->taken = cache.SetCachedCompiledModuleBytes(code);
      },
      [told](Outcome outcome) {
        if (told->listening) told->outcome = std::move(outcome);
      });
  told->listening = false;
  if (!told->taken) return;
  const auto* made = std::get_if<Local<WasmModuleObject>>(&told->outcome);
  if (made != nullptr && !made->IsEmpty()) call.GetReturnValue().Set(*made);
}

v8::ModifyCodeGenerationFromStringsResult RefuseString(Local<v8::Context>, Local<Value>, bool) {
  return {false, {}};
}

/* () => void: from now on no code is made of a string in the calling thread. Node has V8 ask each time, whatever a context says. */
void RefuseCodeFromStrings(const v8::FunctionCallbackInfo<Value>& call) {
  call.GetIsolate()->SetModifyCodeGenerationFromStringsCallback(RefuseString);
}

}  // namespace

NODE_MODULE_INIT() {
  NODE_SET_METHOD(exports, "serialize", Serialize);
  NODE_SET_METHOD(exports, "bytesOf", BytesOfModule);
  NODE_SET_METHOD(exports, "deserialize", Deserialize);
  NODE_SET_METHOD(exports, "refuseCodeFromStrings", RefuseCodeFromStrings);
}
