// For development: small, reachable with a sign-in from everywhere, and with nothing that costs money while unused except
// registry, plan and logs. What differs from tenant to tenant is read from the environment.
using '../main.bicep'

param name = readEnvironmentVariable('MLOPS_NAME', 'vision')
param environmentName = 'dev'
param isolated = false
param storageSku = 'Standard_LRS'
param registrySku = 'Basic'
param dailyLogGigabytes = 1
param gpuMaxNodes = 0
param kubernetes = false
param webApp = true
param webAppSku = 'S1'
param customVision = false
param instanceUserId = readEnvironmentVariable('MLOPS_INSTANCE_USER', '')
param dataScientistsGroupId = readEnvironmentVariable('MLOPS_DATA_SCIENTISTS', '')
param kubernetesAdminGroupId = readEnvironmentVariable('MLOPS_KUBERNETES_ADMINS', '')
param federations = json(readEnvironmentVariable('MLOPS_FEDERATIONS', '[]'))
param budgetAmount = 150
param budgetContacts = json(readEnvironmentVariable('MLOPS_BUDGET_CONTACTS', '[]'))
param budgetStart = readEnvironmentVariable('MLOPS_BUDGET_START', '')
