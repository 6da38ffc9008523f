// The Node addon: open a program.so, step it off the main thread, see its tensors without copying.
//
//   open(path, { threads?, ranks?, hostSpill? }) -> Program
//   program.name, .hash, .ranks, .modelFlops, .deviceBytes, .hostBytes, .fileBytes, .axes [{ name, degree }]
//   program.tensors -> [{ name, role, dtype, memory, shape, share, axes, times }]
//   program.view(name, rank = 0) -> Float32Array | Int32Array | Uint16Array (bf16's bits), [times, ...share] elements
//   program.load({ weights?: string[], seed?: number }) -> Promise<void>
//   program.step() -> Promise<{ seconds }>
//   program.close()
//
// One step or load at a time: another one meanwhile is refused. A view keeps the memory alive until close(), which
// empties all views.
#include <napi.h>

#include <optional>

#include "ithaca/error.h"
#include "loaded_program.h"

namespace {

using namespace ithaca;

const char* role_name(Role role) {
  const char* names[] = {"input", "parameter", "state", "output"};
  return names[static_cast<int>(role)];
}

// Runs `body` with C++ errors turned into JavaScript's.
template <typename Body>
auto guarded(const Napi::Env& env, Body body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

Napi::Array numbers(const Napi::Env& env, const std::vector<std::int64_t>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (std::size_t i = 0; i < values.size(); ++i) array[i] = Napi::Number::New(env, static_cast<double>(values[i]));
  return array;
}

// A positive whole number among the options, or `otherwise`.
int count_option(const Napi::Value& options, const char* key, int otherwise) {
  if (!options.IsObject()) return otherwise;
  const Napi::Value value = options.As<Napi::Object>().Get(key);
  if (value.IsUndefined()) return otherwise;
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0;
  if (number < 1 || number > 65536 || number != static_cast<int>(number)) {
    throw Napi::TypeError::New(options.Env(), std::string(key) + " must be a whole number from 1 to 65536");
  }
  return static_cast<int>(number);
}

class Program : public Napi::ObjectWrap<Program> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Program",
                       {InstanceAccessor<&Program::name>("name"), InstanceAccessor<&Program::hash>("hash"),
                        InstanceAccessor<&Program::ranks>("ranks"),
                        InstanceAccessor<&Program::model_flops>("modelFlops"),
                        InstanceAccessor<&Program::device_bytes>("deviceBytes"),
                        InstanceAccessor<&Program::host_bytes>("hostBytes"),
                        InstanceAccessor<&Program::file_bytes>("fileBytes"),
                        InstanceAccessor<&Program::axes>("axes"), InstanceAccessor<&Program::tensors>("tensors"),
                        InstanceMethod<&Program::view>("view"), InstanceMethod<&Program::read>("read"),
                        InstanceMethod<&Program::write>("write"), InstanceMethod<&Program::load>("load"),
                        InstanceMethod<&Program::step>("step"), InstanceMethod<&Program::close>("close")});
  }

  explicit Program(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Program>(info) {
    if (!info[0].IsString()) throw Napi::TypeError::New(info.Env(), "open needs the path of a program.so");
    const int threads = count_option(info[1], "threads", 1);
    const int ranks = count_option(info[1], "ranks", 1);
    const Napi::Value folder = info[1].IsObject() ? info[1].As<Napi::Object>().Get("hostSpill") : info.Env().Undefined();
    const std::string host_spill = folder.IsString() ? folder.As<Napi::String>().Utf8Value() : "";
    guarded(info.Env(), [&] {
      program_ = std::make_shared<LoadedProgram>(info[0].As<Napi::String>().Utf8Value(), threads, ranks, host_spill);
    });
  }

 private:
  // What a job on the program's thread hands back to the main thread.
  struct Outcome {
    double seconds = 0;
    std::optional<std::string> error;
  };

  LoadedProgram& open(const Napi::Env& env) const {
    if (!program_) throw Napi::Error::New(env, "the program is closed");
    return *program_;
  }

  LoadedProgram& idle(const Napi::Env& env) const {
    if (busy_) throw Napi::Error::New(env, "a step of this program is under way; await it first");
    return open(env);
  }

  const ProgramSpec& spec(const Napi::CallbackInfo& info) const { return open(info.Env()).spec(); }

  Napi::Value name(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), spec(info).name); }
  Napi::Value hash(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), spec(info).hash); }
  Napi::Value ranks(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), open(info.Env()).ranks());
  }
  Napi::Value model_flops(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), spec(info).model_flops);
  }
  Napi::Value device_bytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(spec(info).device_bytes));
  }
  Napi::Value host_bytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(spec(info).host_bytes));
  }
  Napi::Value file_bytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(spec(info).file_bytes));
  }

  Napi::Value axes(const Napi::CallbackInfo& info) {
    const ProgramSpec& program = spec(info);
    Napi::Array all = Napi::Array::New(info.Env(), program.num_axes);
    for (int i = 0; i < program.num_axes; ++i) {
      Napi::Object axis = Napi::Object::New(info.Env());
      axis.Set("name", program.axes[i].name);
      axis.Set("degree", program.axes[i].degree);
      all[i] = axis;
    }
    return all;
  }

  Napi::Value tensors(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Executor& executor = open(env).executor(0);
    const ProgramSpec& program = executor.spec();
    Napi::Array all = Napi::Array::New(env, program.num_tensors);
    for (int i = 0; i < program.num_tensors; ++i) {
      const TensorSpec& tensor = program.tensors[i];
      const Share share = executor.share(tensor);
      Napi::Array axes = Napi::Array::New(env, tensor.rank);
      for (int d = 0; d < tensor.rank; ++d) axes[d] = Napi::String::New(env, tensor.axes[d] ? tensor.axes[d] : "");
      Napi::Object entry = Napi::Object::New(env);
      entry.Set("name", tensor.name);
      entry.Set("role", role_name(tensor.role));
      entry.Set("dtype", dtype_name(tensor.dtype));
      entry.Set("memory", tensor.memory == Memory::device ? "device" : "host");
      entry.Set("shape", numbers(env, share.dims));
      entry.Set("share", numbers(env, share.size));
      entry.Set("axes", axes);
      entry.Set("times", static_cast<double>(tensor.times));
      all[i] = entry;
    }
    return all;
  }

  Napi::Value view(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!info[0].IsString()) throw Napi::TypeError::New(env, "view needs the name of a tensor");
    const std::string name = info[0].As<Napi::String>().Utf8Value();
    const int rank = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 0;
    return guarded(env, [&]() -> Napi::Value {
      Executor& executor = open(env).executor(rank);
      const TensorSpec& tensor = executor.tensor(name);
      return typed(env, tensor, memory_of(env, executor, tensor));
    });
  }

  static Napi::Value typed(const Napi::Env& env, const TensorSpec& tensor, const Napi::ArrayBuffer& buffer) {
    const std::size_t elements = tensor.bytes / dtype_bytes(tensor.dtype);
    if (tensor.dtype == DType::f32) return Napi::Float32Array::New(env, elements, buffer, 0);
    if (tensor.dtype == DType::i32) return Napi::Int32Array::New(env, elements, buffer, 0);
    return Napi::Uint16Array::New(env, elements, buffer, 0);
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!info[0].IsString()) throw Napi::TypeError::New(env, "read needs the name of a tensor");
    const int rank = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 0;
    return guarded(env, [&]() -> Napi::Value {
      Executor& executor = idle(env).executor(rank);
      const TensorSpec& tensor = executor.tensor(info[0].As<Napi::String>().Utf8Value());
      const bool crosses = tensor.role == Role::input || tensor.role == Role::output;
      Napi::ArrayBuffer copy = Napi::ArrayBuffer::New(env, tensor.bytes);
      const HostView held = crosses ? HostView() : executor.read(tensor);
      std::memcpy(copy.Data(), crosses ? executor.data(tensor) : held.data(), tensor.bytes);
      return typed(env, tensor, copy);
    });
  }

  Napi::Value write(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!info[0].IsString() || !info[1].IsTypedArray()) {
      throw Napi::TypeError::New(env, "write needs the name of a tensor and a typed array of its share");
    }
    const int rank = info[2].IsNumber() ? info[2].As<Napi::Number>().Int32Value() : 0;
    return guarded(env, [&]() -> Napi::Value {
      Executor& executor = idle(env).executor(rank);
      const TensorSpec& tensor = executor.tensor(info[0].As<Napi::String>().Utf8Value());
      const Napi::TypedArray given = info[1].As<Napi::TypedArray>();
      if (given.ByteLength() != tensor.bytes) {
        throw Error(std::string(tensor.name) + " has " + std::to_string(tensor.bytes) + " bytes, the array " +
                    std::to_string(given.ByteLength()));
      }
      const auto* from = static_cast<const std::byte*>(given.ArrayBuffer().Data()) + given.ByteOffset();
      const bool crosses = tensor.role == Role::input || tensor.role == Role::output;
      const HostView held = crosses ? HostView() : executor.open_for_writing(tensor);
      std::memcpy(crosses ? executor.data(tensor) : held.data(), from, tensor.bytes);
      if (!crosses) executor.write_back(tensor, held);
      return env.Undefined();
    });
  }

  // One ArrayBuffer a tensor, reused as long as JavaScript holds it: V8 doesn't expect two over the same bytes.
  Napi::ArrayBuffer memory_of(const Napi::Env& env, const Executor& executor, const TensorSpec& tensor) {
    const std::byte* data = executor.data(tensor);
    auto& known = buffers_[data];
    if (!known.IsEmpty()) {
      const Napi::ArrayBuffer buffer = known.Value();
      if (!buffer.IsEmpty()) return buffer;
    }
    auto* owner = new std::shared_ptr<LoadedProgram>(program_);
    const Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
        env, const_cast<std::byte*>(data), tensor.bytes,
        [](Napi::Env, void*, std::shared_ptr<LoadedProgram>* held) { delete held; }, owner);
    known = Napi::Weak(buffer);
    return buffer;
  }

  Napi::Value load(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    std::vector<std::string> weights;
    std::uint64_t seed = 0;
    if (info[0].IsObject()) {
      const Napi::Object options = info[0].As<Napi::Object>();
      if (options.Get("weights").IsArray()) {
        const Napi::Array paths = options.Get("weights").As<Napi::Array>();
        for (std::uint32_t i = 0; i < paths.Length(); ++i) weights.push_back(paths.Get(i).ToString().Utf8Value());
      }
      if (options.Get("seed").IsNumber()) seed = options.Get("seed").As<Napi::Number>().Int64Value();
    }
    return run(env, [weights, seed](LoadedProgram& program) {
      program.load(weights, seed);
      return Outcome{};
    });
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    return run(info.Env(), [](LoadedProgram& program) { return Outcome{program.step(), std::nullopt}; });
  }

  // Runs a job on the program's thread; the promise is settled on the main thread.
  Napi::Value run(const Napi::Env& env, std::function<Outcome(LoadedProgram&)> job) {
    LoadedProgram& program = idle(env);
    busy_ = true;
    Ref();  // this object outlives the job
    const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
    const auto settle = Napi::ThreadSafeFunction::New(env, Napi::Function(), "ithaca step", 1, 1);
    program.submit([this, job = std::move(job), settle, deferred, &program] {
      auto* outcome = new Outcome;
      try {
        *outcome = job(program);
      } catch (const std::exception& error) {
        outcome->error = error.what();
      }
      settle.BlockingCall(outcome, [this, deferred](Napi::Env js, Napi::Function, Outcome* done) {
        const std::unique_ptr<Outcome> owned(done);
        busy_ = false;
        if (done->error) {
          deferred.Reject(Napi::Error::New(js, *done->error).Value());
        } else {
          Napi::Object result = Napi::Object::New(js);
          result.Set("seconds", done->seconds);
          deferred.Resolve(result);
        }
        Unref();
      });
      Napi::ThreadSafeFunction(settle).Release();
    });
    return deferred.Promise();
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    if (!program_) return info.Env().Undefined();
    idle(info.Env());
    for (auto& [data, known] : buffers_) {
      Napi::ArrayBuffer buffer = known.IsEmpty() ? Napi::ArrayBuffer() : known.Value();
      if (!buffer.IsEmpty()) buffer.Detach();
    }
    buffers_.clear();
    program_.reset();
    return info.Env().Undefined();
  }

  std::shared_ptr<LoadedProgram> program_;
  std::map<const std::byte*, Napi::Reference<Napi::ArrayBuffer>> buffers_;
  bool busy_ = false;
};

Napi::Object initialize_module(Napi::Env env, Napi::Object exports) {
  auto* constructor = new Napi::FunctionReference(Napi::Persistent(Program::define(env)));
  env.SetInstanceData(constructor);
  exports.Set("open", Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
                return info.Env().GetInstanceData<Napi::FunctionReference>()->New({info[0], info[1]});
              }));
  return exports;
}

}  // namespace

NODE_API_MODULE(ithaca, initialize_module)
