/**
 * Stands in for an interface of Spin's that this version does not provide yet: the guest starts, and the first call of
 * any of its functions ends the request with an error that names it.
 */
export function missingInterface(name: string): object {
  const fail = (member: string): never => {
    throw new Error(
      `the guest called "${member}" of "${name}", an interface that this version does not provide`,
    );
  };
  const resource = (member: string): object => {
    function Missing(): never {
      return fail(member);
    }
    Missing.prototype = members(fail);
    return new Proxy(Missing, {
      get: (target, key) =>
        Reflect.get(target, key) ?? (typeof key === 'string' ? () => fail(`${member}.${key}`) : undefined),
    });
  };
  const known = new Map<string, object>();
  return new Proxy(Object.create(null) as object, {
    get: (_target, key) => {
      if (typeof key !== 'string') return undefined;
      const member = known.get(key) ?? resource(key);
      known.set(key, member);
      return member;
    },
  });
}

function members(fail: (member: string) => never): object {
  return new Proxy(Object.create(null) as object, {
    get: (_target, key) => (typeof key === 'string' ? () => fail(key) : undefined),
  });
}
